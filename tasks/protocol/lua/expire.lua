-- End every queued request whose deadline has passed, at most a hundred a call.
-- A running one is left to its worker: a late answer is still accepted.
-- ARGV: prefix, TTLs. Returns how many ended.
local at, ended = now(), 0
local late = redis.call('ZRANGEBYSCORE', prefix .. 'deadlines', '-inf', stamp(at), 'LIMIT', 0, 100)
for _, id in ipairs(late) do
  local r = record(id)
  if r and r.state == 'queued' then
    finish(id, r, 'expired', at, ARGV[2], false, nil, 'timeline', longer(r, at, 'expired'))
    ended = ended + 1
  else
    redis.call('ZREM', prefix .. 'deadlines', id)
  end
end
return ended

-- End every queued request whose deadline has passed, at most a hundred a call.
-- A running one is left to its worker: a late answer is still accepted.
-- ARGV: prefix, TTLs. Returns how many ended.
allow_when_full()
local at, ended = now(), 0
local late = redis.call('ZRANGEBYSCORE', prefix .. 'deadlines', '-inf', stamp(at), 'LIMIT', 0, 100)
for _, id in ipairs(late) do
  local key = request_key(id)
  local r = redis.call('HMGET', key, 'state', 'lane')
  if r[1] == 'queued' then
    note(key, at, 'expired')
    finish(id, key, r[2], 'queued', 'expired', at, ARGV[2], false)
    ended = ended + 1
  else
    redis.call('ZREM', prefix .. 'deadlines', id)
  end
end
return ended

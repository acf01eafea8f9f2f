-- queued or running -> canceled. A queued request never runs; a running one's answer is discarded.
-- ARGV: prefix, request id, TTLs. Returns the state found before, or nil when unknown.
allow_when_full()
local id, ttls = ARGV[2], ARGV[3]
local key = request_key(id)
local r = redis.call('HMGET', key, 'state', 'lane')
if r[1] == 'queued' or r[1] == 'running' then
  local at = now()
  note(key, at, 'canceled')
  finish(id, key, r[2], r[1], 'canceled', at, ttls, false)
end
return r[1]

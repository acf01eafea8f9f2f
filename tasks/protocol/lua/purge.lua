-- Purge: remove one message from a lane and cancel its queued requests.
-- KEYS: lane. ARGV: prefix, TTLs, JSON text of the operator, message, then the request ids of the message.
-- Returns how many requests were canceled; 0 when the message is not in the lane (any more).
allow_when_full()
if redis.call('LREM', KEYS[1], -1, ARGV[4]) == 0 then return 0 end
local canceled = 0
for i = 5, #ARGV do
  local key = request_key(ARGV[i])
  local r = redis.call('HMGET', key, 'state', 'lane')
  if r[1] == 'queued' then
    local at = now()
    note(key, at, 'canceled', ',"purged_by":' .. ARGV[3])
    finish(ARGV[i], key, r[2], 'queued', 'canceled', at, ARGV[2], false)
    canceled = canceled + 1
  end
end
return canceled

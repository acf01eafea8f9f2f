-- Make a webhook due in some seconds. KEYS: webhooks by due time; taken ones, to return it from there.
-- ARGV: entry, seconds. Without the second key it is registered, and an earlier registration keeps its due time.
local t = redis.call('TIME')
local due = tonumber(t[1]) + tonumber(t[2]) / 1000000 + tonumber(ARGV[2])
if KEYS[2] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[1], due, ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'NX', due, ARGV[1])
end

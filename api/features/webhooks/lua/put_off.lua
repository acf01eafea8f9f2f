-- Make a webhook due in a while. KEYS: the webhooks by the time they are due; those taken, when it is given back.
-- ARGV: entry, seconds. Without the second key it is promised, and stays due as it is if it has been promised before.
local t = redis.call('TIME')
local due = tonumber(t[1]) + tonumber(t[2]) / 1000000 + tonumber(ARGV[2])
if KEYS[2] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[1], due, ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'NX', due, ARGV[1])
end

-- Resume a lane and wake workers for its backlog. KEYS: lane, doorbell. ARGV: prefix, lane name.
redis.call('HDEL', prefix .. 'paused', ARGV[2])
local length = redis.call('LLEN', KEYS[1])
for _ = 1, math.min(length, 100) do ring(KEYS[2], length) end
return 1

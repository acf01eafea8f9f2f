-- Resume a lane and wake workers for its backlog. KEYS: lane, doorbell. ARGV: prefix, lane name.
allow_when_full()
redis.call('HDEL', prefix .. 'paused', ARGV[2])
for _ = 1, math.min(redis.call('LLEN', KEYS[1]), 100) do ring(KEYS[1], KEYS[2]) end
return 1

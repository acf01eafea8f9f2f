-- A person throws away what waits in a lane: takes one message out and ends its queued requests.
-- KEYS: lane. ARGV: prefix, TTL, JSON text of who did it, message, then the request ids of the message.
-- Returns how many requests were canceled; 0 when the message is not in the lane (any more).
allow_when_full()
if redis.call('LREM', KEYS[1], -1, ARGV[4]) == 0 then return 0 end
return purge(ARGV, 5, tonumber(ARGV[2]), ARGV[3])

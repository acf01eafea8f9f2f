-- RabbitMQ only. A person throws away what waits in a lane: ends the queued requests of one letter. Its message cannot be
-- taken out of RabbitMQ; whoever gets it finds them ended.
-- ARGV: prefix, TTL, JSON text of who did it, entry, queue, then the request ids of the letter.
-- Returns how many requests were canceled; 0 when a worker has the letter, or when it is a retry that waits for its time
-- (what is merely accepted is left to its producer for two seconds).
allow_when_full()
local entry, due = ARGV[4], redis.call('ZSCORE', outbox, ARGV[4])
if redis.call('HEXISTS', outbox .. ':letters', entry) == 0 or (due and tonumber(due) > now() + 2) then return 0 end
redis.call('ZREM', outbox, entry)
redis.call('ZREM', outbox .. ':carried', entry)
redis.call('HDEL', outbox .. ':letters', entry)
redis.call('ZREM', prefix .. 'waiting:' .. ARGV[5], entry)
return purge(ARGV, 6, tonumber(ARGV[2]), ARGV[3])

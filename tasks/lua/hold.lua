-- RabbitMQ only. Write down that a worker has a delivery in its hands: what `take` does where Redis is the broker.
-- ARGV: prefix, boot id, tag, lane, message, entry, queue it came from.
-- Returns 1; 0 when this worker is not registered (it was declared dead), so that nothing is ever held in the name of a
-- worker that nobody watches.
allow_when_full()
local boot, entry = ARGV[2], ARGV[6]
if redis.call('HEXISTS', prefix .. 'workers', boot) == 0 then return 0 end
redis.call('HSET', prefix .. 'unacked:' .. boot, ARGV[3], ARGV[4] .. '\n' .. ARGV[5])
redis.call('ZREM', outbox, entry)
redis.call('ZREM', outbox .. ':carried', entry)
redis.call('HDEL', outbox .. ':letters', entry)
redis.call('ZREM', prefix .. 'waiting:' .. ARGV[7], entry)
return 1

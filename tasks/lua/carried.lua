-- RabbitMQ only. It has confirmed these letters: nobody needs to publish them again, and a worker may be woken for each.
-- ARGV: prefix, then per letter: entry, queue. An entry that is gone was taken before its confirmation arrived.
allow_when_full()
local at = now()
for i = 2, #ARGV, 2 do
  local entry, queue = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', outbox .. ':letters', entry) == 1 then
    redis.call('ZREM', outbox, entry)
    redis.call('ZADD', outbox .. ':carried', stamp(at), entry)
    ring(outbox, prefix .. 'bell:' .. queue)
  end
end
return 1

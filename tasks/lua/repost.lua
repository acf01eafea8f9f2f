-- RabbitMQ only. It has lost these letters: publish them again. ARGV: prefix, entries. Returns how many.
allow_when_full()
local again, at = 0, stamp(now())
for i = 2, #ARGV do
  if redis.call('ZREM', outbox .. ':carried', ARGV[i]) == 1 then
    redis.call('ZADD', outbox, at, ARGV[i])
    again = again + 1
  end
end
if again > 0 then tally('republished', again) end
return again

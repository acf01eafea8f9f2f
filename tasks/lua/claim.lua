-- RabbitMQ only. Letters of the outbox that are due: handed to one caller, who has ARGV[2] seconds to publish them
-- before the next one may try.
-- ARGV: prefix, seconds, most. Returns {entry, letter, entry, letter, ...}.
allow_when_full()
local at, claimed = now(), {}
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', outbox, '-inf', stamp(at), 'LIMIT', 0, ARGV[3])) do
  local letter = redis.call('HGET', outbox .. ':letters', entry)
  if letter then
    redis.call('ZADD', outbox, stamp(at + tonumber(ARGV[2])), entry)
    claimed[#claimed + 1] = entry
    claimed[#claimed + 1] = letter
  else
    redis.call('ZREM', outbox, entry)
  end
end
return claimed

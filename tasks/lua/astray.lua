-- RabbitMQ only. Letters that it confirmed at least ARGV[2] seconds ago and that no worker has taken since, for one caller
-- in that time: they wait behind others, or RabbitMQ has lost them.
-- ARGV: prefix, seconds, most. Returns {entry, letter, ...}.
allow_when_full()
if not redis.call('SET', prefix .. 'outbox:turn', '1', 'NX', 'PX', math.floor(tonumber(ARGV[2]) * 500)) then return {} end
local found = {}
local before = stamp(now() - tonumber(ARGV[2]))
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', outbox .. ':carried', '-inf', before, 'LIMIT', 0, ARGV[3])) do
  local letter = redis.call('HGET', outbox .. ':letters', entry)
  if letter then
    found[#found + 1] = entry
    found[#found + 1] = letter
  else
    redis.call('ZREM', outbox .. ':carried', entry)
  end
end
return found

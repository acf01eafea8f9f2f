-- The clock of Redis' host was set: restart the leases and move deadlines and retries by as much, so that no worker is
-- declared dead and nothing expires for it. ARGV: prefix, the clock that `lapsed` would have returned without the step,
--   tolerance in s.
-- Idempotent: `clock_offset` is the sum of the steps, so a second caller finds none. Returns the step in seconds, as text.
local offset = tonumber(redis.call('GET', prefix .. 'clock_offset') or 0)
local step = now() - offset - tonumber(ARGV[2])
if math.abs(step) < tonumber(ARGV[3]) then return '0' end
redis.call('SET', prefix .. 'clock_offset', stamp(offset + step))
for _, boot in ipairs(redis.call('HKEYS', prefix .. 'workers')) do arm(boot) end
local due = redis.call('ZRANGE', prefix .. 'deadlines', 0, -1, 'WITHSCORES')
for i = 1, #due, 2 do
  local at = stamp(tonumber(due[i + 1]) + step)
  redis.call('ZADD', prefix .. 'deadlines', at, due[i])
  redis.call('HSET', request_key(due[i]), 'deadline', at)
end
local waiting = redis.call('ZRANGE', retries, 0, -1, 'WITHSCORES')
for i = 1, #waiting, 2 do redis.call('ZADD', retries, stamp(tonumber(waiting[i + 1]) + step), waiting[i]) end
return stamp(step)

-- Registered workers whose lease has expired. Only one caller every `ARGV[2]` ms gets the answer, so that the cost does
-- not grow with the square of the number of workers.
-- A TTL longer than the given one means that the host's clock was set back: it is reset.
-- ARGV: prefix, interval in ms. Returns {1, number of registered workers, Redis' clock less the known steps (see
-- step.lua), boot ids ...}, or {0, number} to the other callers.
local workers, turn = prefix .. 'workers', prefix .. 'rescue_turn'
if redis.call('PTTL', turn) > tonumber(ARGV[2]) then redis.call('DEL', turn) end
if not redis.call('SET', turn, '1', 'NX', 'PX', ARGV[2]) then
  return {0, redis.call('HLEN', workers)}
end
local boots = redis.call('HKEYS', workers)
local lapsed = {1, #boots, stamp(now() - tonumber(redis.call('GET', prefix .. 'clock_offset') or 0))}
for _, boot in ipairs(boots) do
  local ttl = tonumber(redis.call('HGET', prefix .. 'lease_ttls', boot) or 0)
  if redis.call('PTTL', prefix .. 'lease:' .. boot) > ttl then arm(boot) end
  if not lives(boot) then lapsed[#lapsed + 1] = boot end
end
return lapsed

-- Registered workers whose lease has run out. One caller in every `ARGV[2]` ms gets the answer, the others get none,
-- so the cost does not grow with the square of the number of workers; who gets it does not matter.
-- ARGV: prefix, interval in ms. Returns {1, number of registered workers, boot ids ...}, or {0, number} to a caller whose
-- turn it is not.
allow_when_full()
local workers = prefix .. 'workers'
if not redis.call('SET', prefix .. 'rescue_turn', '1', 'NX', 'PX', ARGV[2]) then
  return {0, redis.call('HLEN', workers)}
end
local boots = redis.call('HKEYS', workers)
local lapsed = {1, #boots}
for _, boot in ipairs(boots) do
  if not lives(boot) then lapsed[#lapsed + 1] = boot end
end
return lapsed

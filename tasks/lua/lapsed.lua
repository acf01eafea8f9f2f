-- Registered workers whose lease has run out. One caller in every `ARGV[2]` ms gets the answer, the others get none,
-- so the cost does not grow with the square of the number of workers; who gets it does not matter.
-- ARGV: prefix, interval in ms. Returns boot ids.
allow_when_full()
if not redis.call('SET', prefix .. 'rescue_turn', '1', 'NX', 'PX', ARGV[2]) then return {} end
local lapsed = {}
for _, boot in ipairs(redis.call('HKEYS', prefix .. 'workers')) do
  if redis.call('EXISTS', prefix .. 'lease:' .. boot) == 0 then lapsed[#lapsed + 1] = boot end
end
return lapsed

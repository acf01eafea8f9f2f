-- Take calls from a budget, all or none: the generic cell rate algorithm, one number per caller.
-- KEYS: the caller's budget. ARGV: calls allowed per window, window in seconds, calls to take.
-- The key holds the theoretical arrival time: when the budget is full again. A call advances it by window / calls; one
-- that would advance it to more than a window from now is refused.
-- Returns {calls left or -1 when refused, seconds (as text) until the budget is full, or until the next call when refused}.
local calls, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local step = window / calls
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local moved = full_at + step * tonumber(ARGV[3])
if moved - now > window + 0.000001 then
  return {-1, string.format('%.6f', moved - now - window)}
end
redis.call('SET', KEYS[1], string.format('%.6f', moved), 'PX', math.ceil((moved - now) * 1000) + 1000)
return {math.floor((window - (moved - now)) / step + 0.000001), string.format('%.6f', moved - now)}

-- Unregister a worker that holds nothing. ARGV: prefix, boot id, '1' when the worker itself leaves.
-- Returns 1 when it is gone, 0 when it lives or still holds deliveries.
local boot = ARGV[2]
if ARGV[3] ~= '1' and lives(boot) then return 0 end
if redis.call('HLEN', prefix .. 'unacked:' .. boot) > 0 then return 0 end
local described = redis.call('HGET', prefix .. 'workers', boot)
if described then
  local held = redis.call('HGET', prefix .. 'casualties', boot) or 0
  chronicle(ARGV[3] == '1' and 'left' or 'lost', boot, cjson.decode(described).model, ',"held":' .. held)
end
redis.call('HDEL', prefix .. 'workers', boot)
redis.call('HDEL', prefix .. 'casualties', boot)
redis.call('HDEL', prefix .. 'lease_ttls', boot)
redis.call('DEL', prefix .. 'lease:' .. boot, prefix .. 'death:' .. boot)
return 1

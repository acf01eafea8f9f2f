-- Renew or take a worker's lease. ARGV: prefix, boot id, lease TTL in ms, description JSON or '' to keep the last, '1' to
-- register.
-- Returns {1, name, value, ...}, the operators' orders (JSON) for this node; or {0} when the worker is not registered and
-- did not ask to be.
local boot = ARGV[2]
local workers = prefix .. 'workers'
if redis.call('HEXISTS', workers, boot) == 0 then
  if ARGV[5] ~= '1' then return {0} end
  chronicle('joined', boot, cjson.decode(ARGV[4]).model or '')
end
if ARGV[4] ~= '' then redis.call('HSET', workers, boot, ARGV[4]) end
arm(boot, ARGV[3])
return {1, unpack(redis.call('HGETALL', prefix .. 'orders:' .. string.match(boot, '^(.*)/')))}

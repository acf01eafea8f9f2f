-- A guardian declares its worker dead, whatever the lease. ARGV: prefix, boot id, 'itself' if it ended by itself, which
-- counts against a request that ran alone. Returns 1, or 0 when no such worker is registered.
if redis.call('HEXISTS', prefix .. 'workers', ARGV[2]) == 0 then return 0 end
redis.call('SET', prefix .. 'death:' .. ARGV[2], ARGV[3])
return 1

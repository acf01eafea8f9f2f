-- A guardian's word that its worker is dead, whatever its lease says. ARGV: prefix, boot id, 'itself' when it ended by
-- itself, which can be blamed on a request that ran alone. Returns 1, or 0 when nobody of that name is registered.
allow_when_full()
if redis.call('HEXISTS', prefix .. 'workers', ARGV[2]) == 0 then return 0 end
redis.call('SET', prefix .. 'death:' .. ARGV[2], ARGV[3])
return 1

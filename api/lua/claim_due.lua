-- Take the webhook that is due first, for a while: whoever took it and dies leaves it to the next.
-- KEYS: the webhooks by the time they are due. ARGV: seconds it is taken for. Returns its request id, or nil.
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if due then redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), due) end
return due

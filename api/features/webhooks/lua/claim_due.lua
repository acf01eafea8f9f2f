-- Take the webhook that is due first, for a while: one whose taker has died becomes due again.
-- KEYS: webhooks by due time; taken ones by the end of their claim. ARGV: seconds of the claim.
-- Returns its entry, or nil.
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[2], entry)
  redis.call('ZADD', KEYS[1], now, entry)
end
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)) do
  -- One that was registered again while it is taken waits until that call has been made.
  if not redis.call('ZSCORE', KEYS[2], entry) then
    redis.call('ZREM', KEYS[1], entry)
    redis.call('ZADD', KEYS[2], now + tonumber(ARGV[1]), entry)
    return entry
  end
end
return nil

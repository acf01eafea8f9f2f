-- Release a claim if this request still owns it: another may have claimed the key since.
-- KEYS: the claim. ARGV: the request id. Returns 1 when it was released.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0

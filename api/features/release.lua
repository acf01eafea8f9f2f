-- Give up a claim, but only one's own: another may have claimed the key since.
-- KEYS: the claim. ARGV: the request id it must still stand for. Returns 1 when it was given up.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0

-- Delete a dead letter: the request stays failed; its image and its entry in the list go.
-- ARGV: prefix, request id. Returns 1, or 0 when it is not a dead letter.
allow_when_full()
local id = ARGV[2]
if redis.call('ZREM', prefix .. 'dead_letters', id) == 0 then return 0 end
redis.call('DEL', image_key(id))
return 1

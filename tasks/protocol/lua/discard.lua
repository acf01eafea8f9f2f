-- A person deletes a dead letter: it stays failed, its image and its place on the list go.
-- ARGV: prefix, request id. Returns 1, or 0 when it is no dead letter.
allow_when_full()
local id = ARGV[2]
if redis.call('ZREM', prefix .. 'dead_letters', id) == 0 then return 0 end
redis.call('DEL', image_key(id))
return 1

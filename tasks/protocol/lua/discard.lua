-- Delete a dead letter: the request stays failed; its image and its entry in the list go.
-- ARGV: prefix, request id. Returns 1, or 0 when it is not a dead letter.
local id = ARGV[2]
if redis.call('ZREM', prefix .. 'dead_letters', id) == 0 then return 0 end
local payload = redis.call('HGET', request_key(id), 'payload')
if payload then
  redis.call('ZADD', payloads, 0, payload)
  redis.call('HDEL', request_key(id), 'payload')
else
  redis.call('DEL', image_key(id))
end
return 1

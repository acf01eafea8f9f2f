-- RabbitMQ only. It has given up delivering a message: a request of it that still waits becomes a dead letter. One that
-- runs or has ended is somebody else's business.
-- ARGV: prefix, request id, failure TTL. Returns 1 when it became one.
allow_when_full()
local id = ARGV[2]
local key = request_key(id)
local r = redis.call('HMGET', key, 'state', 'lane')
if r[1] ~= 'queued' then return 0 end
bury(id, key, r[2], 'queued', now(), tonumber(ARGV[3]),
  '{"code":"undeliverable","message":"RabbitMQ delivered it too often without an end","retryable":false}')
return 1

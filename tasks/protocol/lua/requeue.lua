-- Requeue a dead letter: failed -> queued, its crashes forgotten.
-- KEYS: lane, doorbell. ARGV: prefix, request id, message. Returns 1; 0 when it is not a dead letter; -1 when its image is gone.
allow_when_full()
local id = ARGV[2]
local key = request_key(id)
if not redis.call('ZSCORE', prefix .. 'dead_letters', id) then return 0 end
local r = redis.call('HMGET', key, 'state', 'lane', 'bytes', 'payload')
if r[1] ~= 'failed' then return 0 end
if not r[4] and redis.call('EXISTS', image_key(id)) == 0 then return -1 end
redis.call('ZREM', prefix .. 'dead_letters', id)
redis.call('PERSIST', key)
if r[4] then redis.call('ZADD', payloads, '+inf', r[4]) else redis.call('PERSIST', image_key(id)) end
redis.call('HSET', key, 'state', 'queued', 'crashes', 0)
redis.call('INCRBY', image_bytes, r[3] or redis.call('STRLEN', image_key(id)))
redis.call('HDEL', key, 'deaths', 'alone', 'completed', 'expires', 'outcome', 'committed', 'deadline')
if redis.call('HEXISTS', opens, owner_of_id(id)) == 1 then
  redis.call('HSET', key, 'counted', '1')
  redis.call('HINCRBY', opens, owner_of_id(id), 1)
end
move(r[2], 'failed', 'queued')
note(key, now(), 'requeued')
tally('requeued')
send(KEYS[1], KEYS[2], ARGV[3])
return 1

-- Requeue a dead letter: failed -> queued, its crashes forgotten.
-- KEYS: lane, doorbell. ARGV: prefix, request id, message. Returns 1; 0 when it is not a dead letter; -1 when its image is gone.
local id = ARGV[2]
local key, r = request_key(id), record(id)
if not r or r.state ~= 'failed' or not redis.call('ZSCORE', prefix .. 'dead_letters', id) then return 0 end
if not r.payload and redis.call('EXISTS', image_key(id)) == 0 then return -1 end
redis.call('ZREM', prefix .. 'dead_letters', id)
redis.call('PERSIST', key)
if r.payload then redis.call('ZADD', payloads, '+inf', r.payload) else redis.call('PERSIST', image_key(id)) end
redis.call('INCRBY', image_bytes, r.bytes or redis.call('STRLEN', image_key(id)))
redis.call('HDEL', key, 'deaths', 'alone', 'completed', 'expires', 'outcome', 'committed', 'deadline')
if redis.call('HEXISTS', opens, owner_of_id(id)) == 1 then
  redis.call('HSET', key, 'counted', '1')
  redis.call('HINCRBY', opens, owner_of_id(id), 1)
end
move(r.lane, 'failed', 'queued')
change(id, r, 'state', 'queued', 'crashes', 0, 'timeline', longer(r, now(), 'requeued'))
tally('requeued')
send(KEYS[1], KEYS[2], ARGV[3])
return 1

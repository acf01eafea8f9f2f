-- running -> queued for another attempt; the retry message itself is published by Celery.
-- ARGV: prefix, boot id, request id, attempt, error JSON. Returns 1, or 0 when fenced.
allow_when_full()
local boot, id, attempt = ARGV[2], ARGV[3], ARGV[4]
local key = request_key(id)
local r = redis.call('HMGET', key, 'state', 'owner', 'attempt', 'lane', 'retried')
if r[1] ~= 'running' or r[2] ~= boot or r[3] ~= attempt then
  if r[5] == boot .. '#' .. attempt then return 1 end
  tally('fenced')
  return 0
end
move(r[4], 'running', 'queued')
redis.call('HSET', key, 'state', 'queued', 'retried', boot .. '#' .. attempt)
redis.call('HDEL', key, 'owner', 'tag')
note(key, now(), 'retry', ',"attempt":' .. attempt .. ',"error":' .. ARGV[5])
tally('retried')
return 1

-- running -> queued, for the requests of a delivery that failed for now: their message waits in the set of retries until it
-- is due, and the delivery ends. ARGV: prefix, boot id, tag, seconds until it is due, lane, newline and message of the
--   retry, then per request: id, attempt, error JSON.
-- Returns how many requests wait; the others are fenced. A repeated call changes nothing.
allow_when_full()
local boot, at, waiting = ARGV[2], now(), 0
for i = 6, #ARGV, 3 do
  local key, attempt = request_key(ARGV[i]), ARGV[i + 1]
  local r = redis.call('HMGET', key, 'state', 'owner', 'attempt', 'lane', 'retried')
  local token = boot .. '#' .. attempt
  if r[1] == 'running' and r[2] == boot and r[3] == attempt then
    move(r[4], 'running', 'queued')
    redis.call('HSET', key, 'state', 'queued', 'retried', token)
    redis.call('HDEL', key, 'owner', 'tag')
    note(key, at, 'retry', ',"attempt":' .. attempt .. ',"error":' .. ARGV[i + 2])
    tally('retried')
    redis.call('ZADD', retries, stamp(at + tonumber(ARGV[4])), ARGV[5])
    waiting = waiting + 1
  elseif r[5] == token then
    waiting = waiting + 1
  else
    tally('fenced')
  end
end
redis.call('HDEL', prefix .. 'unacked:' .. boot, ARGV[3])
return waiting

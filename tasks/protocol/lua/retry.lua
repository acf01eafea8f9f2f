-- running -> queued, for the requests of a delivery that failed for now: their message waits in the set of retries until it
-- is due, and the delivery ends. ARGV: prefix, boot id, tag, seconds until it is due, lane, newline and message of the
--   retry, then per request: id, attempt, error JSON.
-- Returns how many requests wait; the others are fenced. A repeated call changes nothing.
local boot, at, waiting = ARGV[2], now(), 0
for i = 7, #ARGV, 3 do
  local r, attempt = record(ARGV[i]) or {}, ARGV[i + 1]
  local token = boot .. '#' .. attempt
  if r.state == 'running' and r.owner == boot and r.attempt == attempt then
    move(r.lane, 'running', 'queued')
    change(ARGV[i], r, 'state', 'queued', 'retried', token,
      'timeline', longer(r, at, 'retry', ',"attempt":' .. attempt .. ',"error":' .. ARGV[i + 2]))
    tally('retried')
    redis.call('ZADD', retries, stamp(at + tonumber(ARGV[4])), ARGV[5])
    waiting = waiting + 1
  elseif r.retried == token then
    waiting = waiting + 1
  else
    tally('fenced')
  end
end
local held = prefix .. 'unacked:' .. boot
settle(held, ARGV[3], ARGV[6])
redis.call('HDEL', held, ARGV[3])
return waiting

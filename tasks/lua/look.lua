-- RabbitMQ only. Where a worker should look for work, asked before each take.
-- ARGV: prefix, boot id, number of queues n, their names, then the tags of deliveries this worker has settled.
-- Returns {registered (1/0), then per queue: 0 paused, 1 nothing known to be in it, 2 something is}.
allow_when_full()
local boot, n = ARGV[2], tonumber(ARGV[3])
for i = 4 + n, #ARGV do redis.call('HDEL', prefix .. 'unacked:' .. boot, ARGV[i]) end
local answer = {redis.call('HEXISTS', prefix .. 'workers', boot)}
for i = 1, n do
  local queue = ARGV[3 + i]
  if redis.call('HEXISTS', prefix .. 'paused', queue) == 1 then
    answer[1 + i] = 0
  elseif redis.call('EXISTS', prefix .. 'waiting:' .. queue) == 1 then
    answer[1 + i] = 2
  else
    redis.call('DEL', prefix .. 'bell:' .. queue)
    answer[1 + i] = 1
  end
end
return answer

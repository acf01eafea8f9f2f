-- Take the first message of the ordered lanes and write down, in the same step, who holds it.
-- KEYS: n lanes, then their n doorbells. ARGV: prefix, boot id, tag for this delivery, the bare names of the n lanes, then
-- the tags of deliveries this worker has settled: acknowledging them here saves each a round trip of its own.
-- Returns {lane number, message}; {0} when every lane is empty or paused; {-1} when this worker is not registered
-- (it was declared dead), so that nothing is ever held in the name of a worker that nobody watches.
allow_when_full()
local boot, tag = ARGV[2], ARGV[3]
local n = #KEYS / 2
for i = 4 + n, #ARGV do redis.call('HDEL', prefix .. 'unacked:' .. boot, ARGV[i]) end
if redis.call('HEXISTS', prefix .. 'workers', boot) == 0 then return {-1} end
local any_paused = redis.call('EXISTS', prefix .. 'paused') == 1
for i = 1, n do
  if not (any_paused and redis.call('HEXISTS', prefix .. 'paused', ARGV[3 + i]) == 1) then
    local message = redis.call('RPOP', KEYS[i])
    if message then
      redis.call('HSET', prefix .. 'unacked:' .. boot, tag, ARGV[3 + i] .. '\n' .. message)
      return {i, message}
    end
    redis.call('DEL', KEYS[n + i])
  end
end
return {0}

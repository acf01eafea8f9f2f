-- Take messages of the lanes and write down, in the same step, who holds them.
-- KEYS: n lanes, then their n doorbells. ARGV: prefix, boot id, how many requests are wanted, a tag for each delivery that
-- may come of it, as many orders of the lanes (each a word, a letter a lane, A for the first), the bare names of the n
-- lanes, then the tags of deliveries this worker has settled: acknowledging them here saves each a round trip of its own.
-- Tags and orders are words in one argument each.
-- Returns {lane number, message, lane number, message, ...}: fewer than wanted when every lane is empty or paused; {-1}
-- when this worker is not registered (it was declared dead), so that nothing is ever held in the name of a worker that
-- nobody watches.
allow_when_full()
local held, wanted = prefix .. 'unacked:' .. ARGV[2], tonumber(ARGV[3])
local n = #KEYS / 2
for i = 6 + n, #ARGV do redis.call('HDEL', held, ARGV[i]) end
if redis.call('HEXISTS', prefix .. 'workers', ARGV[2]) == 0 then return {-1} end

local open = {}
local any_paused = redis.call('EXISTS', prefix .. 'paused') == 1
for i = 1, n do open[i] = not (any_paused and redis.call('HEXISTS', prefix .. 'paused', ARGV[5 + i]) == 1) end

-- The first message in an order: what was empty once is empty for the rest of this script.
local empty = {}
local function pop(order)
  for place = 1, n do
    local i = string.byte(order, place) - 64
    if open[i] and not empty[i] then
      local message = redis.call('RPOP', KEYS[i])
      if message then return i, message end
      empty[i] = true
    end
  end
end

local taken = {}
local next_order = string.gmatch(ARGV[5], '%S+')
for tag in string.gmatch(ARGV[4], '%S+') do
  if wanted < 1 then return taken end
  local i, message = pop(next_order())
  if not i then break end
  redis.call('HSET', held, tag, ARGV[5 + i] .. '\n' .. message)
  taken[#taken + 1] = i
  taken[#taken + 1] = message
  wanted = wanted - (tonumber(string.match(message, '"requests": ?(%d+)')) or 1)
end
-- Whoever waits on the bell of a lane that is empty would be woken for nothing.
for i = 1, n do
  if empty[i] then redis.call('DEL', KEYS[n + i]) end
end
return taken

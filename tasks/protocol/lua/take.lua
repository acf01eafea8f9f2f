-- Take messages from the lanes and record their holder in the same step.
-- KEYS: n lanes, then their n doorbells. ARGV: prefix, boot id, how many requests are wanted, a tag for each possible
-- delivery, as many orders of the lanes (each a word, a letter per lane, A for the first), the bare names of the n lanes,
-- then the tags of finished deliveries: acknowledging them here saves a round trip each. Tags and orders are words in one
-- argument each.
-- Returns {lane number, message, lane number, message, ...}: fewer than wanted when every lane is empty or paused; {-1}
-- when this worker is not registered (it was declared dead), so that an unregistered worker never
-- holds a delivery.
allow_when_full()
local held, wanted = prefix .. 'unacked:' .. ARGV[2], tonumber(ARGV[3])
local n = #KEYS / 2
for i = 6 + n, #ARGV do redis.call('HDEL', held, ARGV[i]) end
if redis.call('HEXISTS', prefix .. 'workers', ARGV[2]) == 0 then return {-1} end

local open = {}
local any_paused = redis.call('EXISTS', prefix .. 'paused') == 1
for i = 1, n do open[i] = not (any_paused and redis.call('HEXISTS', prefix .. 'paused', ARGV[5 + i]) == 1) end

local RANKS, ranks = {high = 1, normal = 2, low = 3}, {}
for i = 1, n do ranks[i] = RANKS[string.match(ARGV[5 + i], '^%a+')] or 0 end

-- The acceptance time of the request at the head of a lane, nil for an empty lane. One without a record is the oldest.
local function waits_since(i)
  local head = redis.call('LINDEX', KEYS[i], -1)
  if not head then return nil end
  local id = string.match(head, '^{"body": ?"%[%[%[\\"([^\\"]+)')
  return tonumber(id and redis.call('HGET', request_key(id), 'created') or 0)
end

-- Lanes found empty; they stay so for the rest of this script.
local empty = {}

-- The lane to serve instead of lane i: a more urgent one whose head has waited longer, so that no request waits longer for
-- being more urgent.
local function most_overdue(i)
  local best, since = i, nil
  for j = 1, n do
    if ranks[j] < ranks[i] and ranks[j] > 0 and open[j] and not empty[j] then
      local accepted = waits_since(j)
      if not accepted then
        empty[j] = true
      else
        since = since or waits_since(i)
        if since and accepted < since then best, since = j, accepted end
      end
    end
  end
  return best
end

-- The next message in an order of the lanes, and its lane.
local function pop(order)
  for place = 1, n do
    local i = string.byte(order, place) - 64
    if open[i] and not empty[i] then
      i = most_overdue(i)
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
-- An empty lane's doorbell would wake a worker for nothing.
for i = 1, n do
  if empty[i] then redis.call('DEL', KEYS[n + i]) end
end
return taken

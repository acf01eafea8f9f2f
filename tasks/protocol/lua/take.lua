-- Take messages from the lanes and record their holder in the same step.
-- KEYS: n lanes, then their n doorbells. ARGV: prefix, boot id, how many requests are wanted, a tag for each possible
-- delivery, as many orders of the lanes (each a word, a letter per lane, A for the first), the service seconds to expect
-- of a request, the bare names of the n lanes, then the finished deliveries: acknowledging them here saves a round trip
-- each. Each is a tag, perhaps with a space and the service seconds that were more (or less) than expected. Tags and orders
-- are words in one argument each.
-- In a shared lane (see _prelude.lua) an owner pays for a message when it is taken, with what is expected, and the
-- difference when it has ended: seconds by weight. With one owner all this costs no call.
-- Returns {lane number, message, lane number, message, ...}: fewer than wanted when every lane is empty or paused; {-1}
-- when this worker is not registered (it was declared dead), so that an unregistered worker never
-- holds a delivery.
local held, wanted = prefix .. 'unacked:' .. ARGV[2], tonumber(ARGV[3])
local expected = tonumber(ARGV[6])
local n = #KEYS / 2
local unusual = redis.call('EXISTS', prefix .. 'paused', shared) > 0

for i = 7 + n, #ARGV do
  local tag, seconds = string.match(ARGV[i], '^(%S+) ?(.*)$')
  if unusual and seconds ~= '' then settle(held, tag, seconds) end
  redis.call('HDEL', held, tag)
end
if redis.call('HEXISTS', prefix .. 'workers', ARGV[2]) == 0 then return {-1} end

local names = {unpack(ARGV, 7, 6 + n)}
local paused, fair = {}, {}
if unusual then
  paused = redis.call('HMGET', prefix .. 'paused', unpack(names))
  fair = redis.call('HMGET', shared, unpack(names))
end

local RANKS, ranks = {high = 1, normal = 2, low = 3}, {}
for i = 1, n do ranks[i] = RANKS[string.match(names[i], '^%a+')] or 0 end

-- The owner of the next message in a shared lane, when it starts, and the list that has it; nil when there is none.
local function turn(lane)
  adopt(lane)
  while true do
    local owner, start = unpack(redis.call('ZRANGE', turns(lane), 0, 0, 'WITHSCORES'))
    if not owner then return nil end
    for _, list in ipairs({ahead(lane, owner), behind(lane, owner)}) do
      if redis.call('EXISTS', list) == 1 then return owner, start, list end
    end
    redis.call('ZREM', turns(lane), owner)
    redis.call('HSET', idle(lane), owner, start)
  end
end

-- The message that is next in a lane, nil when it is empty.
local function head(i)
  local list = fair[i] and select(3, turn(names[i])) or KEYS[i]
  return redis.call('LINDEX', list, -1)
end

-- When that was accepted, and its owner. One without a record is the oldest.
local function waits_since(i)
  local message = head(i)
  if not message then return nil end
  local id = first_id(message)
  return tonumber(id and redis.call('HGET', request_key(id), 'created') or 0), owner_of(message)
end

local function requests_in(message) return tonumber(string.match(message, '"requests": ?(%d+)')) or 1 end

-- Lanes found empty; they stay so for the rest of this script.
local empty = {}

-- The lane to serve instead of lane i: a more urgent one where a request of the same owner has waited longer, so that
-- none waits longer for being more urgent.
local function most_overdue(i)
  local best, since, whose = i, nil, nil
  for j = 1, n do
    if ranks[j] < ranks[i] and ranks[j] > 0 and not paused[j] and not empty[j] then
      local accepted, owner = waits_since(j)
      if not accepted then
        empty[j] = true
      else
        if not since then since, whose = waits_since(i) end
        if since and accepted < since and owner == whose then best, since = j, accepted end
      end
    end
  end
  return best
end

-- The message whose turn it is in a shared lane, charged to its owner; nil when the lane is empty, and no longer shared.
local function pop_in_turn(i)
  local lane = names[i]
  local owner, start, list = turn(lane)
  local ticket = redis.call('RPOP', KEYS[i])
  if not owner then
    if ticket then return string.sub(ticket, 1, -2) end
    redis.call('DEL', turns(lane), idle(lane))
    redis.call('HDEL', shared, lane)
    fair[i] = false
    return nil
  end
  local message = redis.call('RPOP', list)
  redis.call('HSET', shared, lane, start)
  redis.call('ZINCRBY', turns(lane), expected * requests_in(message) / weight(owner), owner)
  return message
end

-- The next message in an order of the lanes, and its lane.
local function pop(order)
  for place = 1, n do
    local i = string.byte(order, place) - 64
    if not paused[i] and not empty[i] then
      i = most_overdue(i)
      local message
      if fair[i] then message = pop_in_turn(i) else message = redis.call('RPOP', KEYS[i]) end
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
  redis.call('HSET', held, tag, names[i] .. '\n' .. message)
  taken[#taken + 1] = i
  taken[#taken + 1] = message
  wanted = wanted - requests_in(message)
end
-- An empty lane's doorbell would wake a worker for nothing.
for i = 1, n do
  if empty[i] then redis.call('DEL', KEYS[n + i]) end
end
return taken

-- Helpers that change a request. tasks/protocol/scripts.py puts them in front of every other script of this folder.
-- ARGV[1] is always the key prefix. Keys are built from it, so all keys of one Inferlane are in one Redis.
-- Effects are replicated (Redis >= 5), so reading TIME before writing is safe; the clock is Redis's, for all processes.
local prefix = ARGV[1]
local ledger = prefix .. 'ledger'
local retries = prefix .. 'retries'

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- A time as text. Numbers are slow to format, so each is formatted once.
local stamps = {}
local function stamp(seconds)
  stamps[seconds] = stamps[seconds] or string.format('%.6f', seconds)
  return stamps[seconds]
end

-- Whether a worker holds its lease and its guardian has not declared it dead.
local function lives(boot)
  return redis.call('EXISTS', prefix .. 'lease:' .. boot) == 1 and redis.call('EXISTS', prefix .. 'death:' .. boot) == 0
end

-- Start a worker's lease; `lease_ttls` keeps its length in ms after it has expired.
local function arm(boot, ttl)
  ttl = ttl or redis.call('HGET', prefix .. 'lease_ttls', boot)
  if not ttl then return end
  redis.call('HSET', prefix .. 'lease_ttls', boot, ttl)
  redis.call('SET', prefix .. 'lease:' .. boot, ttl, 'PX', ttl)
end

local function owner_of_id(id) return string.match(id, '^(.*)/') or 'anonymous' end
local function request_key(id) return prefix .. 'request:' .. id end
local function image_key(id) return prefix .. 'image:' .. id end
-- Bytes of the images of open requests.
local image_bytes = prefix .. 'image_bytes'
-- References of images outside Redis, by when they may be deleted (tasks/protocol/payloads.py).
local payloads = prefix .. 'payloads'

local function tally(name, by) redis.call('HINCRBY', prefix .. 'counters', name, by or 1) end

-- Statistics: histograms, and counts per minute that are kept for a day. Where `gathered` is a list, they are left to the
-- caller, who adds them up and flushes them with count.lua: a line each of amount, hash and field.
local gathered
local aged = {}
local function count(hash, field, by)
  if gathered then
    gathered[#gathered + 1] = by .. ' ' .. hash .. ' ' .. field
  elseif redis.call('HINCRBY', prefix .. hash, field, by) == tonumber(by) and not aged[hash] and string.find(hash, '^minute:') then
    redis.call('EXPIRE', prefix .. hash, 90000)
    aged[hash] = true
  end
end
-- The counts of a named owner's request `id` are also kept in a hash of that owner.
local minutes = {}
local function minute(id, lane, name, at, by)
  minutes[at] = minutes[at] or 'minute:' .. math.floor(at / 60)
  local field, owner = lane .. ':' .. name, string.match(id, '^(.*)/')
  count(minutes[at], field, by or '1')
  if owner then count(minutes[at] .. ':' .. owner, field, by or '1') end
end

-- The conservation ledger: per lane, accepted = succeeded + failed + canceled + expired + queued + running.
local function move(lane, from, to)
  from, to = lane .. ':' .. from, lane .. ':' .. to
  local counts = redis.call('HMGET', ledger, from, to)
  redis.call('HSET', ledger, from, (counts[1] or 0) - 1, to, (counts[2] or 0) + 1)
end

-- The record of a request: its fields by name; nil when there is none. `owner` and `tag` of the delivery that runs it mean
-- something only while it runs.
local function record(id)
  local flat, found = redis.call('HGETALL', request_key(id)), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found.state and found
end

-- Change fields of a record, in Redis and as it was read.
local function change(id, r, ...)
  local fields = {...}
  redis.call('HSET', request_key(id), unpack(fields))
  for i = 1, #fields, 2 do r[fields[i]] = fields[i + 1] end
end

-- The timeline: one line of JSON per event of the request; `extra` is JSON members with a leading comma, or ''.
local function longer(r, at, event, extra)
  return (r.timeline or '') .. '{"at":' .. stamp(at) .. ',"event":"' .. event .. '"' .. (extra or '') .. '}\n'
end
local function note(id, r, at, event, extra) change(id, r, 'timeline', longer(r, at, event, extra)) end

-- Worker events, newest first: joined, left (stopped) or lost (with the requests it held).
local function chronicle(event, boot, model, extra)
  local line = '{"at":' .. stamp(now()) .. ',"event":"' .. event .. '","worker":"' .. boot .. '","model":"' .. (model or '') .. '"'
  redis.call('LPUSH', prefix .. 'worker_events', line .. (extra or '') .. '}')
  redis.call('LTRIM', prefix .. 'worker_events', 0, 199)
  tally('workers_' .. event)
end

-- Notify the reply lists of a request. One whose name ends in + gets the id, a newline and the record; any other gets the
-- id. Unread reply lists expire. They are in no append-only file and no replica: a caller who loses one reads the record.
local function notify(id, r)
  redis.set_repl(redis.REPL_NONE)
  for name in string.gmatch(r.watch, '%S+') do
    local reply, more = string.match(name, '^(.-)(%+?)$')
    redis.call('RPUSH', reply, more == '' and id or id .. '\n' .. cjson.encode(r))
    redis.call('EXPIRE', reply, 60)
  end
  redis.set_repl(redis.REPL_ALL)
end

-- Latency histogram: bucket b holds durations up to 2^(b/2) milliseconds; sum is in microseconds.
-- Counted twice: in total, per lane, and per minute, for all lanes together (lane name '').
local function observe(id, lane, stage, seconds, at)
  local ms = seconds * 1000
  local bucket = 0
  if ms > 1 then bucket = math.ceil(2 * math.log(ms) / math.log(2) - 0.000000001) end
  if bucket > 40 then bucket = 40 end
  count('latency', lane .. ':' .. stage .. ':' .. bucket, '1')
  if stage ~= 'eta_error' then minute(id, '', stage .. ':' .. bucket, at) end
  local micro = string.format('%d', seconds * 1000000 + 0.5)
  if stage == 'total' then minute(id, '', 'total:sum', at, micro) end
  count('latency', lane .. ':' .. stage .. ':sum', micro)
end

-- The lane that a latency counts for: a shared lane's name does not contain the model.
local function served(lane, model)
  if not model or model == '' or string.find(lane, '.', 1, true) then return lane end
  return lane .. '.' .. model
end

-- Usage: per owner and UTC day, amounts by model (tasks/protocol/usage.py). Kept for 35 days and the current one.
local function use(id, lane, model, at, amounts)
  local hash = prefix .. 'usage:' .. owner_of_id(id) .. ':' .. math.floor(at / 86400)
  local by, names, sums = model and model ~= '' and model or string.match(lane, '%.(.*)$') or 'any', {}, {}
  for what in pairs(amounts) do names[#names + 1] = by .. ':' .. what end
  local before = redis.call('HMGET', hash, unpack(names))
  for i, name in ipairs(names) do
    sums[2 * i - 1], sums[2 * i] = name, (before[i] or 0) + amounts[string.sub(name, #by + 2)]
  end
  redis.call('HSET', hash, unpack(sums))
  if not before[1] then redis.call('EXPIRE', hash, 36 * 86400) end
end
-- Open requests of each owner that has or had a cap or a quota. A record notes that it is counted, so that other owners'
-- requests cost nothing. The first caller reads the owner's requests of the last day; 2 s later, another one those since
-- then, because some processes may not have known of the cap.
local opens = prefix .. 'open'
local function open_of(owner)
  local counted, recent = prefix .. 'counted:' .. owner, prefix .. (owner == 'anonymous' and 'recent' or 'recent:' .. owner)
  local known, at = redis.call('HGET', opens, owner), redis.call('GET', counted) or 0
  if known and (at == 'done' or now() - at < 2) then return tonumber(known) end
  local from, open = known and redis.call('ZCOUNT', recent, '-inf', stamp(at - 1)) or 0, 0
  repeat
    local ids = redis.call('ZRANGE', recent, from, from + 999)
    for _, id in ipairs(ids) do
      local r = owner_of_id(id) == owner and redis.call('HMGET', request_key(id), 'state', 'counted') or {}
      if (r[1] == 'queued' or r[1] == 'running') and not (known and r[2]) then
        redis.call('HSET', request_key(id), 'counted', '1')
        open = open + 1
      end
    end
    from = from + #ids
  until #ids == 0
  redis.call('SET', counted, known and 'done' or stamp(now()))
  return redis.call('HINCRBY', opens, owner, open)
end

-- How much of its quota an owner has used: its requests that ended since a day, and the `open` ones.
local function used_since(owner, first, open)
  local used = open
  for day = first, math.floor(now() / 86400) do
    local amounts = redis.call('HGETALL', prefix .. 'usage:' .. owner .. ':' .. day)
    for i = 1, #amounts, 2 do
      local what = string.match(amounts[i], ':(%a+)$')
      if what == 'succeeded' or what == 'failed' or what == 'canceled' or what == 'expired' then
        used = used + tonumber(amounts[i + 1])
      end
    end
  end
  return used
end

-- Microseconds of computing that the script's request has taken; commit knows them.
local computed = 0

-- The TTL of a finished record in seconds: `ttls` is RESULT_TTL/FAILURE_TTL, the state selects one.
local function kept_for(ttls, state)
  local result, failure = string.match(ttls, '^(.*)/(.*)$')
  return tonumber(state == 'failed' and failure or result)
end

-- End a request; every end goes through here. `keep` keeps the image for a requeue; `model` is the model of the last
-- attempt, if there was one; `...` are more fields of the record and their values.
local function finish(id, r, to, at, ttls, keep, model, ...)
  local key, lane, ttl = request_key(id), r.lane, kept_for(ttls, to)
  move(lane, r.state, to)
  change(id, r, 'state', to, 'completed', stamp(at), 'expires', stamp(at + ttl), ...)
  minute(id, lane, to, at)
  -- Per model, for all lanes together: answers, and failures by its fault.
  if model and model ~= '' and (keep or to == 'succeeded') then minute('', '', (keep and 'faults:' or 'answered:') .. model, at) end
  observe(id, served(lane, model), 'total', at - tonumber(r.created), at)
  use(id, lane, model, at, {[to] = 1, computed = computed > 0 and computed or nil, bytes = r.bytes})
  if computed > 0 then minute(id, '', 'computed', at, computed) end
  if r.bytes then redis.call('DECRBY', image_bytes, r.bytes) end
  if r.deadline then redis.call('ZREM', prefix .. 'deadlines', id) end
  if r.counted and redis.call('HINCRBY', opens, owner_of_id(id), -1) < 0 then redis.call('HDEL', opens, owner_of_id(id)) end
  if r.payload then
    redis.call('ZADD', payloads, keep and stamp(at + ttl + 60) or 0, r.payload)
    if not keep then redis.call('HDEL', key, 'payload') end
  elseif keep then
    redis.call('PEXPIRE', image_key(id), ttl * 1000)
  else
    redis.call('DEL', image_key(id))
  end
  redis.call('PEXPIRE', key, ttl * 1000)
  -- A UUID of version 7 shows its age, so that its record must have expired; another id leaves a mark for as long again,
  -- an hour at least.
  local name = string.match(id, '([^/.]*)[^/]*$')
  if #name ~= 36 or not string.match(name, '^%x+%-%x+%-7%x+%-%x+%-%x+$') then
    redis.call('SET', prefix .. 'gone:' .. id, '', 'PX', (ttl + math.max(ttl, 3600)) * 1000)
  end
  if r.watch then notify(id, r) end
end

-- Add to the dead letters.
local function bury(id, r, at, ttls, failure, model, ...)
  redis.call('ZADD', prefix .. 'dead_letters', stamp(at), id)
  tally('dead_lettered')
  finish(id, r, 'failed', at, ttls, true, model, 'timeline', longer(r, at, 'dead_lettered', ',"error":' .. failure),
    'outcome', failure, ...)
end

-- At most one doorbell per message of a lane that has so many, and a hundred in all: each wakes one idle worker once.
local function ring(bell, length)
  if redis.call('LLEN', bell) < math.min(length, 100) then redis.call('LPUSH', bell, '1') end
end

-- Owners take turns inside a lane (start-time fair queueing: Goyal, Vin and Cheng, 1996).
-- A lane's list has one element for each message that waits; workers take from its end. While all are of one owner, the
-- elements are the messages. The first message of another owner makes the lane *shared*, until nothing waits there:
-- `shared` has its virtual time, `turns:LANE` the virtual time at which each owner's next message starts, `idle:LANE` that
-- of owners without a message, whose requests may still run and cost more than was expected; and each owner
-- has two lists: `ahead`, served first, and `behind`. A message sent to a shared lane goes into its owner's list; the
-- lane's list gets a ticket, which is the message and a space. Each take removes the last ticket, whatever it shows, and
-- delivers the next message of the owner with the earliest start. An element that is no ticket (older than the sharing, or
-- written by an older release) becomes one when it is the last; its message goes to the end of `ahead`.
-- So the length is right, and who pops an element (a worker of an older release) gets a message: perhaps one that another
-- worker gets too, which `begin` runs once. If the lane's list is deleted or popped by others, the messages in
-- the owners' lists are served without tickets, and the sweep republishes the others.
local shared = prefix .. 'shared'
local function turns(lane) return prefix .. 'turns:' .. lane end
local function idle(lane) return prefix .. 'idle:' .. lane end
local function ahead(lane, owner) return prefix .. 'ahead:' .. lane .. ':' .. owner end
local function behind(lane, owner) return prefix .. 'behind:' .. lane .. ':' .. owner end
local function is_ticket(element) return string.byte(element, -1) == 32 end
local function first_id(message) return string.match(message, '^{"body": ?"%[%[%[\\"([^\\"]+)') end
local function owner_of(message) return owner_of_id(first_id(message) or '') end
local function weight(owner)
  local given = tonumber(redis.call('HGET', prefix .. 'owner_weights', owner) or 1)
  return given and given > 0 and given or 1
end

-- Put a message into one of its owner's lists. An owner who had none has saved up nothing: it starts at the present, or
-- later if its last requests were not paid for by now. Virtual times are no stamps: with a large weight a turn is less than
-- a microsecond, and Redis formats numbers exactly.
local function line_up(lane, owner, push, list, message)
  redis.call(push, list, message)
  local present, start = redis.call('HGET', shared, lane) or 0, redis.call('HGET', idle(lane), owner) or 0
  redis.call('ZADD', turns(lane), 'NX', math.max(tonumber(present), tonumber(start)), owner)
end

-- Charge an owner the difference between the service of a delivery that a worker holds and what was expected of it.
local function settle(held, tag, seconds)
  local lane, message = string.match(redis.call('HGET', held, tag) or '', '^([^\n]*)\n(.*)$')
  local present = lane and redis.call('HGET', shared, lane)
  if not present then return end
  local owner = owner_of(message)
  local more, start = tonumber(seconds) / weight(owner), redis.call('ZSCORE', turns(lane), owner)
  if start then
    redis.call('ZADD', turns(lane), math.max(tonumber(present), tonumber(start) + more), owner)
  else
    redis.call('HINCRBYFLOAT', idle(lane), owner, more)
  end
end

-- The last element of a shared lane becomes a ticket.
local function adopt(lane)
  local element = redis.call('LINDEX', prefix .. lane, -1)
  if not element or is_ticket(element) then return end
  local owner = owner_of(element)
  redis.call('LSET', prefix .. lane, -1, element .. ' ')
  line_up(lane, owner, 'LPUSH', ahead(lane, owner), element)
end

-- Append a message to a lane: at its tail or, with `first`, at its head. Returns how many wait there.
local function send(lane_key, bell, message, first)
  local lane, owner, newest = string.sub(lane_key, #prefix + 1), owner_of(message), redis.call('LINDEX', lane_key, 0)
  local push, element = first and 'RPUSH' or 'LPUSH', message
  if newest and (is_ticket(newest) or owner_of(newest) ~= owner) then
    redis.call('HSETNX', shared, lane, '0')
    line_up(lane, owner, push, first and ahead(lane, owner) or behind(lane, owner), message)
    element = message .. ' '
  end
  local length = redis.call(push, lane_key, element)
  ring(bell, length)
  return length
end

-- Helpers that change a request. tasks/protocol/scripts.py puts them in front of every other script of this folder.
-- ARGV[1] is always the key prefix. Keys are built from it, so all keys of one Inferlane are in one Redis.
-- Effects are replicated (Redis >= 5), so reading TIME before writing is safe; the clock is Redis's, for all processes.
local prefix = ARGV[1]
local ledger = prefix .. 'ledger'
local retries = prefix .. 'retries'

-- A script whose first write needs no memory may keep writing when Redis has reached maxmemory (6.2 and later).
local function allow_when_full() redis.call('DEL', prefix .. 'none') end

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

local function stamp(seconds) return string.format('%.6f', seconds) end

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

local function request_key(id) return prefix .. 'request:' .. id end
local function image_key(id) return prefix .. 'image:' .. id end
-- Bytes of the images of open requests.
local image_bytes = prefix .. 'image_bytes'

local function tally(name, by) redis.call('HINCRBY', prefix .. 'counters', name, by or 1) end

-- Events per minute, kept for a day.
local function minute(lane, name, at)
  local key = prefix .. 'minute:' .. math.floor(at / 60)
  if redis.call('HINCRBY', key, lane .. ':' .. name, 1) == 1 then redis.call('EXPIRE', key, 90000) end
end

-- The conservation ledger: per lane, accepted = succeeded + failed + canceled + expired + queued + running.
local function credit(lane, state, by) redis.call('HINCRBY', ledger, lane .. ':' .. state, by) end
local function move(lane, from, to)
  credit(lane, from, -1)
  credit(lane, to, 1)
end

-- The timeline: one line of JSON per event of the request; `extra` is JSON members with a leading comma, or ''.
local function note(key, at, event, extra)
  local line = '{"at":' .. stamp(at) .. ',"event":"' .. event .. '"' .. (extra or '') .. '}\n'
  redis.call('HSET', key, 'timeline', (redis.call('HGET', key, 'timeline') or '') .. line)
end

-- Worker events, newest first: joined, left (stopped) or lost (with the requests it held).
local function chronicle(event, boot, model, extra)
  local line = '{"at":' .. stamp(now()) .. ',"event":"' .. event .. '","worker":"' .. boot .. '","model":"' .. (model or '') .. '"'
  redis.call('LPUSH', prefix .. 'worker_events', line .. (extra or '') .. '}')
  redis.call('LTRIM', prefix .. 'worker_events', 0, 199)
  tally('workers_' .. event)
end

-- Notify the reply lists of a request. One whose name ends in + gets the id, a newline and the record; any other gets the
-- id. Unread reply lists expire.
local function notify(key, id)
  local watch = redis.call('HGET', key, 'watch')
  if not watch then return end
  for name in string.gmatch(watch, '%S+') do
    local reply, more = string.match(name, '^(.-)(%+?)$')
    redis.call('RPUSH', reply, more == '' and id or id .. '\n' .. cjson.encode(redis.call('HGETALL', key)))
    redis.call('EXPIRE', reply, 60)
  end
end

-- Latency histogram: bucket b holds durations up to 2^(b/2) milliseconds; sum is in microseconds.
-- Counted twice: in total, per lane, and per minute, for all lanes together (lane name '').
local function observe(lane, stage, seconds, at)
  local ms = seconds * 1000
  local bucket = 0
  if ms > 1 then bucket = math.ceil(2 * math.log(ms) / math.log(2) - 0.000000001) end
  if bucket > 40 then bucket = 40 end
  redis.call('HINCRBY', prefix .. 'latency', lane .. ':' .. stage .. ':' .. bucket, 1)
  minute('', stage .. ':' .. bucket, at)
  local micro = math.floor(seconds * 1000000 + 0.5)
  if stage == 'total' then redis.call('HINCRBY', prefix .. 'minute:' .. math.floor(at / 60), ':total:sum', micro) end
  redis.call('HINCRBY', prefix .. 'latency', lane .. ':' .. stage .. ':sum', micro)
end

-- The lane that a latency counts for: a shared lane's name does not contain the model.
local function served(lane, model)
  if not model or model == '' or string.find(lane, '.', 1, true) then return lane end
  return lane .. '.' .. model
end

-- The TTL of a finished record in seconds: `ttls` is RESULT_TTL/FAILURE_TTL, the state selects one.
local function kept_for(ttls, state)
  local result, failure = string.match(ttls, '^(.*)/(.*)$')
  return tonumber(state == 'failed' and failure or result)
end

-- End a request; every end goes through here. `keep` keeps the image for a requeue; `model` is the model of the last
-- attempt, if there was one.
local function finish(id, key, lane, from, to, at, ttls, keep, model)
  local ttl = kept_for(ttls, to)
  redis.call('HSET', key, 'state', to, 'completed', stamp(at), 'expires', stamp(at + ttl))
  redis.call('HDEL', key, 'owner', 'tag')
  move(lane, from, to)
  minute(lane, to, at)
  -- Per model, for all lanes together: answers, and failures by its fault.
  if model and model ~= '' and (keep or to == 'succeeded') then minute('', (keep and 'faults:' or 'answered:') .. model, at) end
  local r = redis.call('HMGET', key, 'created', 'bytes')
  observe(served(lane, model), 'total', at - tonumber(r[1]), at)
  if r[2] then redis.call('DECRBY', image_bytes, r[2]) end
  redis.call('ZREM', prefix .. 'deadlines', id)
  if keep then
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
  notify(key, id)
end

-- Add to the dead letters.
local function bury(id, key, lane, from, at, ttls, failure, model)
  redis.call('HSET', key, 'outcome', failure)
  note(key, at, 'dead_lettered', ',"error":' .. failure)
  redis.call('ZADD', prefix .. 'dead_letters', stamp(at), id)
  tally('dead_lettered')
  finish(id, key, lane, from, 'failed', at, ttls, true, model)
end

-- At most one doorbell per message, and a hundred in all: each wakes one idle worker once.
local function ring(lane_key, bell)
  if redis.call('LLEN', bell) < math.min(redis.call('LLEN', lane_key), 100) then redis.call('LPUSH', bell, '1') end
end

-- Append a message to a lane: at its tail or, with `first`, at its head.
local function send(lane_key, bell, message, first)
  redis.call(first and 'RPUSH' or 'LPUSH', lane_key, message)
  ring(lane_key, bell)
end

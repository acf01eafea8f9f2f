-- queued -> running, for the worker that holds the delivery. The caller reads the image with a separate GET in the
-- same round trip, because Lua would copy it four times.
-- A request whose worker has died runs alone. The record notes it from this step on; only then a death counts against
-- the request.
-- ARGV: prefix, boot id, tag of the delivery, request id, TTLs, most attempts, model, '1' when nothing else runs
--   in this worker until the request has ended.
-- Returns {attempt, spec, created, attempt start, reference of an image outside Redis or '', what to count (see
-- count.lua)}, or {0, why} when this delivery must not run the request now: 'not_held' (this worker was declared dead and the delivery given away),
-- 'finished', 'unknown', 'elsewhere' (another live delivery runs it), 'expired', 'image_lost', 'given_up', 'alone' (it is
-- still queued and must run alone).
allow_when_full()
local boot, tag, id, ttls = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = request_key(id)
if redis.call('HEXISTS', prefix .. 'unacked:' .. boot, tag) == 0 then
  tally('fenced')
  return {0, 'not_held'}
end
local r = redis.call('HMGET', key, 'state', 'lane', 'deadline', 'attempt', 'deaths', 'spec', 'created', 'owner', 'tag', 'eta',
  'started', 'payload', 'timeline')
local state, lane = r[1], r[2]
if not state then return {0, 'unknown'} end
local at = now()
local attempt, suspect = tonumber(r[4]), tonumber(r[5] or 0) > 0
if state == 'running' and r[8] and redis.call('HEXISTS', prefix .. 'unacked:' .. r[8], r[9]) == 0 then
  -- Its delivery was acknowledged without an answer, by a fault outside this protocol: take it over.
  move(lane, 'running', 'queued')
  tally('healed')
  state = 'queued'
end
if state == 'running' then
  if r[8] ~= boot or r[9] ~= tag then return {0, 'elsewhere'} end
elseif state ~= 'queued' then
  return {0, 'finished'}
else
  if r[3] and tonumber(r[3]) <= at then
    note(key, at, 'expired')
    finish(id, key, lane, 'queued', 'expired', at, ttls, false)
    return {0, 'expired'}
  end
  if not r[12] and redis.call('EXISTS', image_key(id)) == 0 then
    local failure = '{"code":"image_lost","message":"the stored image is gone","retryable":false}'
    redis.call('HSET', key, 'outcome', failure)
    finish(id, key, lane, 'queued', 'failed', at, ttls, false)
    return {0, 'image_lost'}
  end
  if attempt >= tonumber(ARGV[6]) then
    bury(id, key, lane, 'queued', at, ttls, '{"code":"given_up","message":"started too often without an end","retryable":false}')
    return {0, 'given_up'}
  end
  if suspect and ARGV[8] ~= '1' then return {0, 'alone'} end
  attempt = attempt + 1
  if suspect then redis.call('HSET', key, 'alone', '1') end
  move(lane, 'queued', 'running')
  redis.call('HSET', key, 'state', 'running', 'owner', boot, 'tag', tag, 'attempt', attempt, 'started', stamp(at),
    'timeline', longer(r[13], at, 'started', ',"worker":"' .. boot .. '","attempt":' .. attempt))
  gathered = {}
  if attempt == 1 and not r[11] then
    local waited = at - tonumber(r[7])
    local by = served(lane, ARGV[7])
    observe(id, by, 'queue', waited, at)
    if r[10] then observe(id, by, 'eta_error', math.abs(waited - tonumber(r[10])), at) end
  end
  r[11] = stamp(at)
end
return {attempt, r[6], r[7], r[11], r[12] or '', table.concat(gathered or {}, '\n')}

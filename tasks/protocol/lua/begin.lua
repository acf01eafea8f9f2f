-- queued -> running, for the worker that holds the delivery. The caller reads the image with a separate GET in the
-- same round trip, because Lua would copy it four times.
-- A request whose worker has died runs alone. The record notes it from this step on; only then a death counts against
-- the request.
-- ARGV: prefix, boot id, tag of the delivery, request id, TTLs, most attempts, model, '1' when nothing else runs
--   in this worker until the request has ended.
-- Returns {attempt, spec, created, attempt start, reference of an image outside Redis or '', statistics (see
-- count.lua)}, or {0, why} when this delivery must not run the request now: 'not_held' (this worker was declared dead and
-- the delivery given away), 'finished', 'unknown', 'elsewhere' (another live delivery runs it), 'expired', 'given_up',
-- 'alone' (it is still queued and must run alone).
local boot, tag, id, ttls = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HEXISTS', prefix .. 'unacked:' .. boot, tag) == 0 then
  tally('fenced')
  return {0, 'not_held'}
end
local r = record(id)
if not r then return {0, 'unknown'} end
local at = now()
local attempt, suspect = tonumber(r.attempt), tonumber(r.deaths or 0) > 0
if r.state == 'running' and redis.call('HEXISTS', prefix .. 'unacked:' .. r.owner, r.tag) == 0 then
  -- Its delivery was acknowledged without an answer, by a fault outside this protocol: take it over.
  move(r.lane, 'running', 'queued')
  tally('healed')
  r.state = 'queued'
end
if r.state == 'running' then
  if r.owner ~= boot or r.tag ~= tag then return {0, 'elsewhere'} end
elseif r.state ~= 'queued' then
  return {0, 'finished'}
else
  if r.deadline and tonumber(r.deadline) <= at then
    finish(id, r, 'expired', at, ttls, false, nil, 'timeline', longer(r, at, 'expired'))
    return {0, 'expired'}
  end
  if attempt >= tonumber(ARGV[6]) then
    bury(id, r, at, ttls, '{"code":"given_up","message":"started too often without an end","retryable":false}')
    return {0, 'given_up'}
  end
  if suspect and ARGV[8] ~= '1' then return {0, 'alone'} end
  attempt = attempt + 1
  if suspect then change(id, r, 'alone', '1') end
  move(r.lane, 'queued', 'running')
  gathered = {}
  if attempt == 1 and not r.started then
    local waited = at - tonumber(r.created)
    local by = served(r.lane, ARGV[7])
    observe(id, by, 'queue', waited, at)
    if r.eta then observe(id, by, 'eta_error', math.abs(waited - tonumber(r.eta)), at) end
  end
  change(id, r, 'state', 'running', 'owner', boot, 'tag', tag, 'attempt', attempt, 'started', stamp(at),
    'timeline', longer(r, at, 'started', ',"worker":"' .. boot .. '","attempt":' .. attempt))
end
return {attempt, r.spec, r.created, r.started, r.payload or '', table.concat(gathered or {}, '\n')}

-- Return one delivery of a dead worker to the head of its lane. Idempotent: the HDEL lets one rescuer through.
-- KEYS: lane, doorbell. ARGV: prefix, boot id of the dead worker, tag, message marked as redelivered, MAX_DELIVERIES,
--   TTLs, then the request ids of the message.
-- A request that was running runs alone from now on. A crash counts only if it ran alone already and the worker ended
-- by itself, as recorded by its guardian; at MAX_DELIVERIES crashes it becomes a dead letter.
-- Returns {returned requests, dead letters}, or {-1, 0} when the worker is alive or another rescuer was first.
local boot, tag, most, ttls = ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6]
if lives(boot) then return {-1, 0} end
if redis.call('HDEL', prefix .. 'unacked:' .. boot, tag) == 0 then return {-1, 0} end
local by_itself = redis.call('GET', prefix .. 'death:' .. boot) == 'itself'
local at, open, dead = now(), 0, 0
for i = 7, #ARGV do
  local id = ARGV[i]
  local r = record(id) or {}
  if r.state == 'queued' then
    open = open + 1
  elseif r.state == 'running' and r.owner == boot and r.tag == tag then
    local crashes = (r.crashes or 0) + (by_itself and r.alone and 1 or 0)
    change(id, r, 'crashes', crashes, 'deaths', (r.deaths or 0) + 1,
      'timeline', longer(r, at, 'worker_died', ',"worker":"' .. boot .. '","crashes":' .. crashes))
    if crashes >= most then
      local worker = redis.call('HGET', prefix .. 'workers', boot)
      bury(id, r, at, ttls,
        '{"code":"poison","message":"ended its worker ' .. crashes .. ' times","retryable":false}',
        worker and cjson.decode(worker).model)
      dead = dead + 1
    else
      move(r.lane, 'running', 'queued')
      change(id, r, 'state', 'queued', 'timeline', longer(r, at, 'rescued'))
      tally('rescued')
      open = open + 1
    end
  end
end
if open + dead > 0 then redis.call('HINCRBY', prefix .. 'casualties', boot, open + dead) end
if open > 0 then
  send(KEYS[1], KEYS[2], ARGV[4], true)
  tally('redelivered')
end
return {open, dead}

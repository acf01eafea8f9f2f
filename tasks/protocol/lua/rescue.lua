-- Return one delivery of a dead worker to the head of its lane. Idempotent: the HDEL lets one rescuer through.
-- KEYS: lane, doorbell. ARGV: prefix, boot id of the dead worker, tag, message marked as redelivered, MAX_DELIVERIES,
--   TTLs, then the request ids of the message.
-- A request that was running runs alone from now on. A crash counts only if it ran alone already and the worker ended
-- by itself, as recorded by its guardian; at MAX_DELIVERIES crashes it becomes a dead letter.
-- Returns {returned requests, dead letters}, or {-1, 0} when the worker is alive or another rescuer was first.
allow_when_full()
local boot, tag, most, ttls = ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6]
if lives(boot) then return {-1, 0} end
if redis.call('HDEL', prefix .. 'unacked:' .. boot, tag) == 0 then return {-1, 0} end
local by_itself = redis.call('GET', prefix .. 'death:' .. boot) == 'itself'
local at, open, dead = now(), 0, 0
for i = 7, #ARGV do
  local id = ARGV[i]
  local key = request_key(id)
  local r = redis.call('HMGET', key, 'state', 'owner', 'lane', 'crashes', 'tag', 'alone')
  if r[1] == 'queued' then
    open = open + 1
  elseif r[1] == 'running' and r[2] == boot and r[5] == tag then
    local crashes = tonumber(r[4] or 0)
    if by_itself and r[6] then crashes = redis.call('HINCRBY', key, 'crashes', 1) end
    redis.call('HINCRBY', key, 'deaths', 1)
    note(key, at, 'worker_died', ',"worker":"' .. boot .. '","crashes":' .. crashes)
    if crashes >= most then
      local worker = redis.call('HGET', prefix .. 'workers', boot)
      bury(id, key, r[3], 'running', at, ttls,
        '{"code":"poison","message":"ended its worker ' .. crashes .. ' times","retryable":false}',
        worker and cjson.decode(worker).model)
      dead = dead + 1
    else
      move(r[3], 'running', 'queued')
      redis.call('HSET', key, 'state', 'queued')
      redis.call('HDEL', key, 'owner', 'tag')
      note(key, at, 'rescued')
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

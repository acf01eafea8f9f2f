-- running -> succeeded or failed, by the current attempt only, and once.
-- ARGV: prefix, boot id, request id, attempt, new state, outcome JSON, TTLs, decode seconds, infer seconds, dead letter (1/0),
--   batch size, model, JSON of further predictions or ''.
-- Returns what to count when done (see count.lua), 2 when this attempt had done it already (a repeated call), 0 fenced: a
-- later attempt or another end owns it.
local boot, id, attempt, to = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = request_key(id)
local r = redis.call('HMGET', key, 'state', 'owner', 'attempt', 'lane', 'committed', 'timeline')
if r[1] ~= 'running' or r[2] ~= boot or r[3] ~= attempt then
  if r[5] == boot .. '#' .. attempt then return 2 end
  allow_when_full()
  tally('fenced')
  return 0
end
gathered = {}
local at, ends = now(), {'outcome', ARGV[6], 'committed', boot .. '#' .. attempt}
if ARGV[13] ~= '' then ends = {'more', ARGV[13], unpack(ends)} end
computed = math.floor((tonumber(ARGV[8]) + tonumber(ARGV[9]) / tonumber(ARGV[11])) * 1000000 + 0.5)
if ARGV[10] == '1' then
  allow_when_full()
  redis.call('HSET', key, unpack(ends))
  bury(id, key, r[4], 'running', at, ARGV[7], ARGV[6], ARGV[12])
  return table.concat(gathered, '\n')
end
if to == 'succeeded' then
  local by = served(r[4], ARGV[12])
  observe(id, by, 'decode', tonumber(ARGV[8]), at)
  observe(id, by, 'infer', tonumber(ARGV[9]), at)
  count('batches', by .. ':' .. ARGV[11], 1)
end
finish(id, key, r[4], 'running', to, at, ARGV[7], false, ARGV[12],
  'timeline', longer(r[6], at, to, ',"attempt":' .. attempt .. ',"batch":' .. ARGV[11]), unpack(ends))
return table.concat(gathered, '\n')

-- running -> succeeded or failed, by the current attempt only, and once.
-- ARGV: prefix, boot id, request id, attempt, new state, outcome JSON, TTLs, decode seconds, infer seconds, dead letter (1/0),
--   batch size, model, JSON of further predictions or ''.
-- Returns the statistics (see count.lua) when done, 2 when this attempt had done it already (a repeated call), 0 fenced: a
-- later attempt or another end owns it.
local boot, id, attempt, to = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local r = record(id) or {}
if r.state ~= 'running' or r.owner ~= boot or r.attempt ~= attempt then
  if r.committed == boot .. '#' .. attempt then return 2 end
  tally('fenced')
  return 0
end
gathered = {}
local at, ends = now(), {'outcome', ARGV[6], 'committed', boot .. '#' .. attempt}
if ARGV[13] ~= '' then ends = {'more', ARGV[13], unpack(ends)} end
computed = math.floor((tonumber(ARGV[8]) + tonumber(ARGV[9]) / tonumber(ARGV[11])) * 1000000 + 0.5)
if ARGV[10] == '1' then
  bury(id, r, at, ARGV[7], ARGV[6], ARGV[12], unpack(ends))
  return table.concat(gathered, '\n')
end
if to == 'succeeded' then
  local by = served(r.lane, ARGV[12])
  observe(id, by, 'decode', tonumber(ARGV[8]), at)
  observe(id, by, 'infer', tonumber(ARGV[9]), at)
  count('batches', by .. ':' .. ARGV[11], 1)
end
finish(id, r, to, at, ARGV[7], false, ARGV[12],
  'timeline', longer(r, at, to, ',"attempt":' .. attempt .. ',"batch":' .. ARGV[11]), unpack(ends))
return table.concat(gathered, '\n')

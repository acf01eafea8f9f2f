-- Accept one message's requests: record, image, ledger and message in one step, all of them or none.
-- KEYS: lane list, doorbell. ARGV: prefix, lane, message, limit of the model's queued requests, of this lane's
--   (refused beyond both, unless the owner has hardly anything there), limit of bytes of images of open requests (0: none),
--   the owner's cap, quota (0: none) and first day of the month, with spaces between, or '' where its requests are not
--   counted, reply list or '', number of backlog lanes m, their names, then per request: id, spec, fingerprint, deadline in
--   seconds or '', expected wait in seconds or '', bytes of the image, reference of the image outside Redis or '', upload or ''.
-- An upload is a key with a short TTL that was set just before, because Lua would copy its image three times. It becomes
-- the request's image here, or is deleted. Where no other call can have the id, it has the image's name already.
-- With '' for every reference and upload this is a dry run: nothing is accepted, and 2 stands for a request that would be.
-- The only script that Redis refuses when out of memory, so that accepted requests can still end: its first write needs
-- memory. If Redis had no memory for an upload and has some again for this, nothing is accepted either.
-- Returns per request {code, state}: 1 accepted, 2 would be, 0 replayed, -1 same id with another body, -2 no room, -3 no
-- room for its image; and {-4, how many are open} beyond the owner's cap, {-5, how much is used} beyond its quota.
local lane, message, bound, reserved = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local bytes_bound, allowance, reply, m = tonumber(ARGV[6]), ARGV[7], ARGV[8], tonumber(ARGV[9])
local FIELDS = 8
local asking = ARGV[#ARGV] == '' and ARGV[#ARGV - 1] == ''
local names, backlog = {lane .. ':accepted', lane .. ':queued'}, 0
for i = 1, m do names[i + 2] = ARGV[9 + i] .. ':queued' end
local counts = redis.call('HMGET', ledger, unpack(names))
local accepted, own = counts[1] or 0, counts[2] or 0
for i = 3, #names do backlog = backlog + (counts[i] or 0) end
local held = bytes_bound > 0 and tonumber(redis.call('GET', image_bytes) or 0) or 0

local owner = owner_of_id(ARGV[10 + m])
local open, cap, quota, used = nil, 0, 0, 0
if allowance ~= '' then
  local first
  cap, quota, first = string.match(allowance, '(%d+) (%d+) (%d+)')
  cap, quota, open = tonumber(cap), tonumber(quota), open_of(owner)
  if quota > 0 then used = used_since(owner, tonumber(first), open) end
end

local answers, fresh, unused, refused = {}, {}, {}, 0
local function drop(uploads)
  for _, upload in ipairs(uploads) do redis.call('DEL', upload) end
end
-- Accept nothing, and forget the uploads.
local function give_up(answer)
  drop(unused)
  for _, i in ipairs(fresh) do redis.call('DEL', ARGV[i + 7]) end
  return answer
end

-- Whether the owner has hardly anything in this lane, full of others' requests: then it is not refused.
local function spared()
  for _, place in ipairs({0, -1}) do  -- those without a ticket are of one owner
    local element = redis.call('LINDEX', KEYS[1], place)
    if not element or not is_ticket(element) and owner_of(element) == owner then return false end
  end
  local waiting = redis.call('LLEN', ahead(lane, owner)) + redis.call('LLEN', behind(lane, owner))
  return waiting + #fresh < math.floor(reserved / 5)
end

for i = 10 + m, #ARGV, FIELDS do
  local known = redis.call('HMGET', request_key(ARGV[i]), 'state', 'fingerprint')
  local size = tonumber(ARGV[i + 5])
  local code, state = asking and 2 or 1, known[1] or ''
  if known[1] then
    code = known[2] == ARGV[i + 2] and 0 or -1
  elseif cap > 0 and open + #fresh >= cap then
    code, state = -4, tostring(open + #fresh)
  elseif quota > 0 and used + #fresh >= quota then
    code, state = -5, tostring(used + #fresh)
  elseif backlog + #fresh >= bound and own + #fresh >= reserved and not spared() then
    code = -2
  elseif bytes_bound > 0 and held + size > bytes_bound then
    code = -3
  else
    fresh[#fresh + 1] = i
    held = held + size
  end
  if code < -1 then refused = refused + 1 end
  -- The image of a request that was accepted, sent once more after a lost answer, is no upload.
  if code < 1 and ARGV[i + 7] ~= '' and not (known[1] and ARGV[i + 7] == image_key(ARGV[i])) then
    unused[#unused + 1] = ARGV[i + 7]
  end
  answers[#answers + 1] = {code, code == 1 and 'queued' or state}
end

if #fresh > 0 and not asking then
  local at = now()
  local first = redis.pcall('HSET', ledger, names[1], accepted + #fresh, names[2], own + #fresh)
  if type(first) == 'table' and first.err then return give_up(first) end
  for _, i in ipairs(fresh) do
    if ARGV[i + 7] ~= '' and redis.call('PERSIST', ARGV[i + 7]) == 0 then
      redis.call('HSET', ledger, names[1], accepted, names[2], own)
      return give_up(redis.error_reply('OOM an image found no memory: maxmemory was reached'))
    end
  end
  if open then redis.call('HINCRBY', opens, owner, #fresh) end
  local bytes = 0
  for place, i in ipairs(fresh) do
    local id, spec, fingerprint, deadline, eta = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
    local key = request_key(id)
    if ARGV[i + 6] ~= '' then
      redis.call('ZADD', payloads, '+inf', ARGV[i + 6])
    elseif ARGV[i + 7] ~= image_key(id) then
      redis.call('RENAME', ARGV[i + 7], image_key(id))
    end
    local fields = {'state', 'queued', 'lane', lane, 'created', stamp(at), 'spec', spec, 'fingerprint', fingerprint,
      'attempt', 0, 'place', accepted + place, 'bytes', ARGV[i + 5]}
    local function also(name, value)
      if value ~= '' then fields[#fields + 1], fields[#fields + 2] = name, value end
    end
    also('counted', open and '1' or '')
    also('payload', ARGV[i + 6])
    also('watch', reply)
    also('eta', eta)
    if deadline ~= '' then
      local ends = stamp(at + tonumber(deadline))
      also('deadline', ends)
      redis.call('ZADD', prefix .. 'deadlines', ends, id)
    end
    redis.call('HSET', key, unpack(fields))
    redis.call('ZADD', prefix .. 'recent', stamp(at), id)
    if owner ~= 'anonymous' then redis.call('ZADD', prefix .. 'recent:' .. owner, stamp(at), id) end
    bytes = bytes + tonumber(ARGV[i + 5])
  end
  redis.call('INCRBY', image_bytes, bytes)
  send(KEYS[1], KEYS[2], message)
end
drop(unused)
-- A dry run that finds room is followed by the real call, which is counted.
if refused > 0 and not (asking and #fresh > 0) then
  tally('refused', refused)
  use(ARGV[10 + m], lane, nil, now(), {refused = refused})
end
return answers

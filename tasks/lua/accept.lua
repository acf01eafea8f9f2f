-- Accept one message's requests: record, image, ledger and message in one step, so a request is either wholly there
-- or was never accepted.
-- KEYS: lane list, doorbell. ARGV: prefix, lane, message, most that may be queued for the model ahead of this, most of
--   this lane that may be queued all the same, reply list or '', number of backlog lanes m, their names, then per request:
--   id, spec, fingerprint, deadline in seconds or '', expected wait in seconds or '', upload.
-- An upload is a key that was set just before, with a short time to live: through Lua its image would be copied three
-- times. It becomes the request's image here, or is left to expire. With '' for every upload this only asks: nothing is
-- accepted, 2 stands for a request that would be.
-- Alone among the scripts it is refused when Redis is out of memory: nothing new comes in, what is in gets out.
-- Returns per request {code, state}: 1 accepted, 2 would be, 0 replayed, -1 same id with another body, -2 no room.
local lane, message, bound, reserved = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local reply, m = ARGV[6], tonumber(ARGV[7])
local asking = ARGV[#ARGV] == ''
local function queued(name) return tonumber(redis.call('HGET', ledger, name .. ':queued') or 0) end
local backlog, own, refused = 0, queued(lane), 0
for i = 1, m do backlog = backlog + queued(ARGV[7 + i]) end
local before = tonumber(redis.call('HGET', ledger, lane .. ':accepted') or 0)
local at = now()
local answers, fresh = {}, 0
for i = 8 + m, #ARGV, 6 do
  local id, spec, fingerprint = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local deadline, eta, upload = ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local key = request_key(id)
  local known = redis.call('HMGET', key, 'state', 'fingerprint')
  if known[1] then
    if known[2] == fingerprint then
      answers[#answers + 1] = {0, known[1]}
    else
      answers[#answers + 1] = {-1, known[1]}
    end
  elseif backlog + fresh >= bound and own + fresh >= reserved then
    refused = refused + 1
    if not asking then redis.call('DEL', upload) end
    answers[#answers + 1] = {-2, ''}
  elseif asking then
    fresh = fresh + 1
    answers[#answers + 1] = {2, ''}
  else
    fresh = fresh + 1
    redis.call('RENAME', upload, image_key(id))
    redis.call('PERSIST', image_key(id))
    redis.call('HSET', key, 'state', 'queued', 'lane', lane, 'created', stamp(at), 'spec', spec,
      'fingerprint', fingerprint, 'attempt', 0, 'place', before + fresh)
    if reply ~= '' then redis.call('HSET', key, 'watch', reply) end
    if eta ~= '' then redis.call('HSET', key, 'eta', eta) end
    if deadline ~= '' then
      local ends = stamp(at + tonumber(deadline))
      redis.call('HSET', key, 'deadline', ends)
      redis.call('ZADD', prefix .. 'deadlines', ends, id)
    end
    redis.call('ZADD', prefix .. 'recent', stamp(at), id)
    minute(lane, 'accepted', at)
    answers[#answers + 1] = {1, 'queued'}
  end
end
-- Who asks and is told of room comes again with everything, and is counted then.
if refused > 0 and not (asking and fresh > 0) then tally('refused', refused) end
if fresh > 0 and not asking then
  redis.call('ZREMRANGEBYSCORE', prefix .. 'recent', '-inf', stamp(at - 90000))
  credit(lane, 'accepted', fresh)
  credit(lane, 'queued', fresh)
  send(KEYS[1], KEYS[2], message)
end
return answers

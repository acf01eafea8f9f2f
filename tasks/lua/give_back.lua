-- A living worker returns a delivery it will not run, to the head of its lane, without blame.
-- KEYS: lane, doorbell. ARGV: prefix, boot id, tag, message, then the request ids of the message.
-- Returns 1, or 0 when the delivery was no longer held.
allow_when_full()
local boot, tag = ARGV[2], ARGV[3]
if redis.call('HDEL', prefix .. 'unacked:' .. boot, tag) == 0 then return 0 end
for i = 5, #ARGV do
  local key = request_key(ARGV[i])
  local r = redis.call('HMGET', key, 'state', 'owner', 'tag', 'lane')
  if r[1] == 'running' and r[2] == boot and r[3] == tag then
    move(r[4], 'running', 'queued')
    redis.call('HSET', key, 'state', 'queued')
    redis.call('HDEL', key, 'owner', 'tag')
    note(key, now(), 'given_back', ',"worker":"' .. boot .. '"')
  end
end
send(KEYS[1], KEYS[2], ARGV[4], true)
tally('given_back')
return 1

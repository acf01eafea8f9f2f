-- Republish a queued request whose message was lost, at the head of its lane.
-- KEYS: lane, doorbell. ARGV: prefix, request id, message. Returns 1, or 0 when the request is not queued any more.
-- A second message of a request does no harm: `begin` runs it once.
allow_when_full()
local key = request_key(ARGV[2])
if redis.call('HGET', key, 'state') ~= 'queued' then return 0 end
note(key, now(), 'republished')
tally('republished')
send(KEYS[1], KEYS[2], ARGV[3], true)
return 1

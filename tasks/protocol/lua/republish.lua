-- Republish a queued request whose message was lost, at the head of its lane.
-- KEYS: lane, doorbell. ARGV: prefix, request id, message. Returns 1, or 0 when the request is not queued any more.
-- A second message of a request does no harm: `begin` runs it once.
local r = record(ARGV[2])
if not r or r.state ~= 'queued' then return 0 end
note(ARGV[2], r, now(), 'republished')
tally('republished')
send(KEYS[1], KEYS[2], ARGV[3], true)
return 1

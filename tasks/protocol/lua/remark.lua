-- Add an event to the timeline of a request on record. ARGV: prefix, request id, event, JSON members with a leading
-- comma or ''. Returns 1, or 0 when there is no such record.
allow_when_full()
local key = request_key(ARGV[2])
if redis.call('EXISTS', key) == 0 then return 0 end
note(key, now(), ARGV[3], ARGV[4])
return 1

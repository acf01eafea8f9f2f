-- Add an event to the timeline of a request on record. ARGV: prefix, request id, event, JSON members with a leading
-- comma or ''. Returns 1, or 0 when there is no such record.
local r = record(ARGV[2])
if not r then return 0 end
note(ARGV[2], r, now(), ARGV[3], ARGV[4])
return 1

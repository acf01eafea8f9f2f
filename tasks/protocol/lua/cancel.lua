-- queued or running -> canceled. A queued request never runs; a running one's answer is discarded.
-- ARGV: prefix, request id, TTLs. Returns the state before, or nil when unknown.
local id, ttls = ARGV[2], ARGV[3]
local r, at = record(id), now()
local found = r and r.state
if found == 'queued' or found == 'running' then
  finish(id, r, 'canceled', at, ttls, false, nil, 'timeline', longer(r, at, 'canceled'))
end
return found

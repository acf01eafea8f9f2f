-- Purge: remove one message from a lane and cancel its queued requests.
-- KEYS: lane, the list that has the message: the lane's or one of its owner's. ARGV:
--   prefix, TTLs, JSON text of the operator, message, then the request ids of the message.
-- Returns how many requests were canceled; 0 when the message is not in the lane (any more).
local lane, list = string.sub(KEYS[1], #prefix + 1), KEYS[2]
local removed = redis.call('LREM', list, -1, ARGV[4])
if removed == 0 and list == KEYS[1] then  -- it has become a ticket
  list = ahead(lane, owner_of(ARGV[4]))
  removed = redis.call('LREM', list, -1, ARGV[4])
end
if removed == 0 then return 0 end
if list ~= KEYS[1] then
  adopt(lane)
  redis.call('RPOP', KEYS[1])
end
local canceled = 0
for i = 5, #ARGV do
  local r, at = record(ARGV[i]), now()
  if r and r.state == 'queued' then
    finish(ARGV[i], r, 'canceled', at, ARGV[2], false, nil,
      'timeline', longer(r, at, 'canceled', ',"purged_by":' .. ARGV[3]))
    canceled = canceled + 1
  end
end
return canceled

-- A living worker returns requests it will not run to the head of their lane, without blame.
-- KEYS: lane, doorbell. ARGV: prefix, boot id, tag, message, '1' when the delivery stays held and these requests of it
--   have not run, so that their attempt does not count; then the request ids of the message. Without a message they are
--   queued again, but stay with the delivery.
-- Returns 1, or 0 when the delivery was no longer held or, if it stays held, when none of these is open.
local boot, tag = ARGV[2], ARGV[3]
local unrun = ARGV[5] == '1'
if redis.call(unrun and 'HEXISTS' or 'HDEL', prefix .. 'unacked:' .. boot, tag) == 0 then return 0 end
local open = 0
for i = 6, #ARGV do
  local r = record(ARGV[i]) or {}
  if r.state == 'running' and r.owner == boot and r.tag == tag then
    move(r.lane, 'running', 'queued')
    change(ARGV[i], r, 'state', 'queued', 'attempt', r.attempt - (unrun and 1 or 0),
      'timeline', longer(r, now(), 'given_back', ',"worker":"' .. boot .. '"'))
  end
  if r.state == 'queued' then open = open + 1 end
end
if unrun and open == 0 then return 0 end
if ARGV[4] == '' then return 1 end
send(KEYS[1], KEYS[2], ARGV[4], true)
tally('given_back')
return 1

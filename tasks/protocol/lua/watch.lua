-- Subscribe a reply list to the end of a request. ARGV: prefix, request id, reply list.
-- Returns the state now (nil when unknown); nothing is written when the request has ended.
local key = request_key(ARGV[2])
local r = redis.call('HMGET', key, 'state', 'watch')
if r[1] == 'queued' or r[1] == 'running' then
  local watch = r[2] or ''
  if not string.find(' ' .. watch .. ' ', ' ' .. ARGV[3] .. ' ', 1, true) then
    redis.call('HSET', key, 'watch', (watch ~= '' and watch .. ' ' or '') .. ARGV[3])
  end
end
return r[1]

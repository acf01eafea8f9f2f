-- Move the retries that are due to the heads of their lanes, at most a hundred a call. ARGV: prefix. Returns how many.
local due = redis.call('ZRANGEBYSCORE', retries, '-inf', stamp(now()), 'LIMIT', 0, 100)
for _, retry in ipairs(due) do
  local lane, message = string.match(retry, '^([^\n]*)\n(.*)$')
  redis.call('ZREM', retries, retry)
  send(prefix .. lane, prefix .. 'bell:' .. lane, message, true)
end
return #due

-- Keep a text for some seconds, also when Redis is full: it belongs to requests that have been accepted.
-- KEYS: where. ARGV: text, seconds. The first write needs no memory, so the script may go on writing.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1

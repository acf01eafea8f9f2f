-- RabbitMQ only. Leave a message in the outbox until its time has come: a retry that waits in nobody's memory.
-- ARGV: prefix, lane, message, seconds.
allow_when_full()
post(ARGV[2], ARGV[3], false, now() + tonumber(ARGV[4]))
return 1

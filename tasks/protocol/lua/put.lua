-- Append a message to the tail of a lane and wake one idle worker.
-- KEYS: lane, doorbell. ARGV: prefix, message. Returns the lane's length.
return send(KEYS[1], KEYS[2], ARGV[2])

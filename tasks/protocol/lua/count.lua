-- Add up statistics that begin.lua and commit.lua left to their caller (tasks/protocol/statistics.py).
-- ARGV: prefix, then amount, hash and field of each.
for i = 2, #ARGV, 3 do count(ARGV[i + 1], ARGV[i + 2], ARGV[i]) end

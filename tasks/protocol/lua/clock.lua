-- The time by Redis's clock, in epoch seconds, as text. ARGV: prefix.
return stamp(now())

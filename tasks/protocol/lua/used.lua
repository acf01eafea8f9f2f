-- How much of its quota an owner has used. ARGV: prefix, owner, first day of the month since 1970.
return used_since(ARGV[2], tonumber(ARGV[3]), open_of(ARGV[2]))

-- own: who, as JSON, reason, entry, position of the fact with what it says. A new fact: what it said is erased. Nothing where
-- it says something else by now or has ended, and then the operation may be used again.
local said = known()
if said then return said end
local no = closed()
if no then return no end
local h = head(ARGV[9])
if not h or h.state ~= 'live' or h.pos ~= ARGV[10] then return {} end
return leave(ARGV[9], h, 'erased', {author = cjson.decode(ARGV[7]), reason = ARGV[8]})

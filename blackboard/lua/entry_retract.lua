-- own: entry, version it must have or '', who, as JSON, reason. A new fact: what the entry said counts no more.
local said = known()
if said then return said end
local no = closed()
if no then return no end
local h, ended = changeable(ARGV[7], ARGV[8])
if not h then return ended end
no = stale(h.topic)
if no then return no end
local by, fenced = author(cjson.decode(ARGV[9]))
if fenced then return fenced end
local reply = leave(ARGV[7], h, 'retracted', {author = by, reason = ARGV[10]})
noticed(ARGV[7], h, 0, '')
return reply

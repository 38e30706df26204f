-- own: entry, its version, content, facts as in entry_post, version of the schemas, time to live in ms, '' to keep it as it
-- is, '-' for none, triggers as in entry_post. What the entry says from here on; what it said stays in the log.
local said = known()
if said then return said end
local id, given = ARGV[7], cjson.decode(ARGV[10])
local no = closed()
if no then return no end
local h, ended = changeable(id, ARGV[8])
if not h then return ended end
no = stale(h.topic) or unchecked(ARGV[11]) or unwatched(ARGV[13])
if no then return no end
local by, fenced = author(given.by)
if fenced then return fenced end
for _, one in ipairs(h.taint or {}) do
  given.taint = given.taint or {}
  given.taint[#given.taint + 1] = one
end
local taint, bad = linked(given, h.first)
if bad then return bad end
local before = h.pos
if ARGV[12] ~= '' then h.exp = ARGV[12] ~= '-' and MS + tonumber(ARGV[12]) or nil end
h.ver, h.taint = h.ver + 1, taint
tell('entry.amended', id, h, splice(ARGV[9], {topic = h.topic, version = h.ver, topic_version = topic_version(h.topic),
  confidence = given.conf, author = by, taint = taint, links = given.links, expires_ms = h.exp, at_ms = MS,
  supersedes = place(before), posted = place(h.first), salt = given.salt, sha256 = given.sha256}))
h.pos, h.fence, h.till, h.says = h.last, nil, nil, nil
linkage(id, h, 'ZREM')
h.links = given.links
linkage(id, h, 'ZADD')
if h.exp then redis.call('ZADD', ENDS, n2s(h.exp), id) else redis.call('ZREM', ENDS, id) end
keep(id, h)
noticed(id, h, given.conf, ARGV[14])
return remember(id, h)

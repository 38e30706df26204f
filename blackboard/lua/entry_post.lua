-- own: entry, topic, content, facts (conf, by; taint and links where there are any), version of the schemas it was checked
-- against, time to live in ms or '', in a run version of the triggers it was compared with and keys of those that fit. A new
-- entry, its place in the index, and the activations it makes.
local said = known()
if said then return said end
local no = closed() or stale(ARGV[8]) or unchecked(ARGV[11]) or unwatched(ARGV[13])
if no then return no end
local id, given = ARGV[7], cjson.decode(ARGV[10])
local by, fenced = author(given.by)
if fenced then return fenced end
local taint, bad = linked(given)
if bad then return bad end
local h = {topic = ARGV[8], ver = 1, state = 'live', taint = taint, links = given.links}
if ARGV[12] ~= '' then h.exp = MS + tonumber(ARGV[12]) end
tell('entry.posted', id, h, splice(ARGV[9], {topic = h.topic, version = 1, topic_version = topic_version(h.topic),
  confidence = given.conf, author = by, taint = taint, links = h.links, expires_ms = h.exp, at_ms = MS, salt = given.salt, sha256 = given.sha256}))
h.first, h.pos = h.last, h.last
redis.call('ZADD', INDEX, 0, member(id, h))
if h.exp then redis.call('ZADD', ENDS, n2s(h.exp), id) end
linkage(id, h, 'ZADD')
keep(id, h)
-- What has expired leaves the index a few at a time, with the posts that fill it; readers pass over it until then.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', n2s(MS), 'LIMIT', 0, 10)) do off(old, head(old)) end
noticed(id, h, given.conf, ARGV[14])
return remember(id, h)

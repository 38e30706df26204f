-- own: name, id. Whether there was such a subscription; another of that name stays. See subscribe.lua for what is kept of it.
local SUBS = KEYS[FIXED + 1]
local KEPT_MS = 3600000
local name, id = ARGV[A], ARGV[A + 1]
local made = redis.call('HGET', SUBS, name)
local there = made and cjson.decode(made).id == id
local gone = {}
for other, at in pairs(cjson.decode(redis.call('HGET', SUBS, ':') or '{}')) do
  if at > MS - KEPT_MS then gone[other] = at end
end
gone[id] = gone[id] or MS
if there then redis.call('HDEL', SUBS, name, name .. ':') end
redis.call('HSET', SUBS, ':', cjson.encode(gone))
return there and 1 or 0

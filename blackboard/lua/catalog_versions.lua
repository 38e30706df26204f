-- Reads versions as they are at one moment: pairs of name and sha, an empty sha meaning the active version.
-- Five strings for each: sha, header, manifest, exam, signature; all empty where there is no such version.
local reply = {}
for i = 1, #ARGV, 2 do
  local name, sha = ARGV[i], ARGV[i + 1]
  if sha == '' then sha = redis.call('HGET', KEYS[5], name) or '' end
  local id = name .. '|' .. sha
  local h = sha ~= '' and redis.call('HGET', KEYS[2], id)
  if h then
    reply[#reply + 1] = sha
    reply[#reply + 1] = h
    reply[#reply + 1] = redis.call('HGET', KEYS[3], id) or ''
    reply[#reply + 1] = redis.call('HGET', KEYS[4], id) or ''
    reply[#reply + 1] = redis.call('HGET', KEYS[11], id) or ''
  else
    for _ = 1, 5 do reply[#reply + 1] = '' end
  end
end
return reply

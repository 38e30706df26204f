-- Revokes a key, or what it signed from `after` on and before `before` (empty: without an end), or one version.
-- {'1'} when that is new, {'0'} when it was so already. Of a version, verb says for the audit what that was: 'revoked', or
-- 'refused' for grants that were not approved.
local kind, by, reason = ARGV[1], ARGV[2], ARGV[3]
if kind == 'key' then
  local key, after, before = ARGV[4], ARGV[5], ARGV[6]
  local entry = trusted(key)
  if not entry then return refuse('UNKNOWN', 'no key ' .. key .. ' on this board') end
  local spans = entry.revoked or {}
  for _, span in ipairs(spans) do
    if span.after == after and span.before == before then return {'0'} end
  end
  spans[#spans + 1] = {after = after, before = before}
  entry.revoked = spans
  redis.call('HSET', KEYS[12], key, cjson.encode(entry))
  audit('revoked', key, key, by, reason)
  return {'1'}
end
local name, sha, verb = ARGV[4], ARGV[5], ARGV[7]
WHO, BEHALF = by, 'person'
local id = name .. '|' .. sha
local h = header(id)
if not h then return refuse('UNKNOWN', 'no version ' .. sha .. ' of ' .. name) end
if h.revoked then return {'0'} end
-- The removal comes first: a server that is full lets a script that starts with it run to its end.
if redis.call('HGET', KEYS[5], name) == sha then redis.call('HDEL', KEYS[5], name) end
if h.state == 'canary' then no_canary(name, sha) end
end_canary(name, h, '', sha .. ' is revoked')
local offered = h.state == 'active'
retired(h)
h.revoked = digits(NOW)
put(id, h)
if offered then withdraw(name, sha) end
announce('revoked', name, sha, 'retired', reason)
audit(verb, id, h.signer or '', by, reason)
return {'1'}

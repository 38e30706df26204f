-- Keeps example needs that a model wrote for a capability: name, who wrote them, JSON text; without both, forgets them.
-- Only whoever is let to write them may, so a call that comes late or once more changes nothing. Replies 1 when it is as asked.
local name, who, text = ARGV[1], ARGV[2], ARGV[3]
local kept = redis.call('HGET', KEYS[22], name) or ''
if text == '' then
  redis.call('HDEL', KEYS[23], name)
  if kept == '' then return {'0'} end
  redis.call('HDEL', KEYS[22], name)
  told_anew(name)
  return {'1'}
end
local _, holder = string.match(redis.call('HGET', KEYS[23], name) or '', '^(%d+)\31([^\31]*)\31')
local same = string.match(kept, '^%d+\31(.*)$') == text
if holder ~= who then return {same and '1' or '0'} end
redis.call('HDEL', KEYS[23], name)
if same then return {'1'} end
redis.call('HSET', KEYS[22], name, digits(NOW) .. '\31' .. text)
told_anew(name)
return {'1'}

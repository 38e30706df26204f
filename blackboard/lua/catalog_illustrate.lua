-- Keeps example needs that a model wrote for a capability: name, who wrote them, JSON text; without both, forgets them.
-- Only whoever is let to write them may, so a call that comes late or once more changes nothing. Replies 1 when it is as asked.
local name, who, text = ARGV[1], ARGV[2], ARGV[3]
local till, holder = writer(name)
local kept = redis.call('HGET', KEYS[22], name) or ''
if text == '' then
  local gone = redis.call('HDEL', KEYS[22], name) == 1
  if gone then told_anew(name) end
  if holder then written(name, holder) end
  return {gone and '1' or '0'}
end
if holder ~= who or till == 0 then return {string.match(kept, '^%d+\31(.*)$') == text and '1' or '0'} end
written(name, who)
redis.call('HSET', KEYS[22], name, digits(NOW) .. '\31' .. text)
told_anew(name)
return {'1'}

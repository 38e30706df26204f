-- Lets a token open nothing from now on: id, by whom, why. {'1'} when that is new, {'0'} when it was so already.
local id, by, reason = ARGV[1], ARGV[2], ARGV[3]
local raw = redis.call('HGET', KEYS[14], id)
if not raw then return refuse('UNKNOWN', 'no token ' .. id .. ' on this board') end
local token = cjson.decode(raw)
if token.revoked ~= '' then return {'0'} end
token.revoked = digits(NOW)
redis.call('HSET', KEYS[14], id, cjson.encode(token))
audit('token.revoked', id, '', by, reason, cjson.encode({name = token.name}))
return {'1'}

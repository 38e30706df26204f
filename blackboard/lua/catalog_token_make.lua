-- Makes a token: id, name, hash of its secret, scopes with spaces between, tenant ('' for all), ms it is good for ('' without
-- end), by whom. The same again: nothing.
local id, name, hash, scopes, tenant, ms, by = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local there = redis.call('HGET', KEYS[14], id)
if there then
  if cjson.decode(there).hash == hash then return {'0'} end
  return refuse('CONFLICT', 'there is a token ' .. id .. ' already')
end
local expires = ms == '' and '' or digits(NOW + tonumber(ms))
redis.call('HSET', KEYS[14], id, cjson.encode({name = name, hash = hash, scopes = scopes, tenant = tenant,
  created = digits(NOW), expires = expires, by = by, revoked = ''}))
audit('token.made', id, '', by, '', cjson.encode({name = name, scopes = scopes, tenant = tenant, expires_ms = expires}))
return {'1'}

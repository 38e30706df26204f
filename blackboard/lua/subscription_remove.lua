-- own: name. Whether there was such a subscription.
local SUBS = KEYS[FIXED + 1]
redis.call('HDEL', SUBS, ARGV[A] .. ':')
return redis.call('HDEL', SUBS, ARGV[A])

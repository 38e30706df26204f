-- own: letter, how often it was put back before, run that was made of it. The same again: nothing.
local j = redis.call('HGET', DEAD, ARGV[A])
local l = j and cjson.decode(j)
if not l or l.n ~= tonumber(ARGV[A + 1]) then return 0 end
l.n, l.as = l.n + 1, ARGV[A + 2]
redis.call('HSET', DEAD, ARGV[A], cjson.encode(l))
return 1

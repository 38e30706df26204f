-- own: name, state as it was read ('' where there was none), definition, new state ('' to remove), ms at which it is
-- due ('' for never). 1 when written, or when this very writing was done before; 0 when another came first.
local now = redis.call('HGET', STATE, ARGV[1]) or ''
if now == ARGV[4] then return 1 end
if now ~= ARGV[2] then return 0 end
if ARGV[5] == '' then
  redis.call('ZREM', DUE, ARGV[1])
else
  redis.call('ZADD', DUE, ARGV[5], ARGV[1])
end
if ARGV[4] == '' then
  redis.call('HDEL', DEFS, ARGV[1])
  redis.call('HDEL', STATE, ARGV[1])
else
  redis.call('HSET', DEFS, ARGV[1], ARGV[3])
  redis.call('HSET', STATE, ARGV[1], ARGV[4])
end
return 1

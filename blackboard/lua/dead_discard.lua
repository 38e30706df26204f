-- own: letters. Forgets them; what they are about stays in the logs. Replies how many there were.
local gone = 0
for i = A, #ARGV do
  if redis.call('HEXISTS', DEAD, ARGV[i]) == 1 then gone = gone + 1 end
  redis.call('ZREM', DEADX, ARGV[i])
  redis.call('HDEL', DEAD, ARGV[i])
end
return gone

-- own: by whom, letters. Forgets them; what they are about stays in the logs. Replies how many there were.
local gone, first, tenant = 0
for i = A + 1, #ARGV do
  local j = redis.call('HGET', DEAD, ARGV[i])
  if j then
    gone = gone + 1
    if not first then first, tenant = ARGV[i], cjson.decode(j).tenant end
  end
  redis.call('ZREM', DEADX, ARGV[i])
  redis.call('HDEL', DEAD, ARGV[i])
end
if first then
  audit('letters.discarded', first, ARGV[A], gone == 1 and '' or 'and ' .. n2s(gone - 1) .. ' more', tenant)
end
return gone

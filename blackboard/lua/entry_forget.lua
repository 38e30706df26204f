-- own: operations. Of what they wrote, only that they were done is known from now on, not with what content.
for i = 2, #ARGV do
  local said = redis.call('HGET', OPS, ARGV[i])
  if said then redis.call('HSET', OPS, ARGV[i], 'erased' .. string.match(said, '^%S+(.*)$')) end
end
return 1

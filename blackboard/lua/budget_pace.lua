-- Gives a level a pace for its reservations, or takes it away. ARGV at a time, in a second, in bursts of; '' for no bound.
for i, field in ipairs({'pace:c', 'pace:r', 'pace:b'}) do
  if ARGV[i] == '' then redis.call('HDEL', KEYS[4], field) else redis.call('HSET', KEYS[4], field, ARGV[i]) end
end
redis.call('HDEL', KEYS[4], 'full')
return 1

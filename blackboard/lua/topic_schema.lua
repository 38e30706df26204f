-- own: pattern, schema ('' takes it away). The version rises, so that whoever checked an entry against the schemas before is
-- told to check it again. Replies the version.
local now = redis.call('HGET', SCHEMAS, ARGV[2]) or ''
if now ~= ARGV[3] then
  redis.call('HINCRBY', SCHEMAS, '', 1)
  if ARGV[3] == '' then redis.call('HDEL', SCHEMAS, ARGV[2]) else redis.call('HSET', SCHEMAS, ARGV[2], ARGV[3]) end
end
return redis.call('HGET', SCHEMAS, '') or '0'

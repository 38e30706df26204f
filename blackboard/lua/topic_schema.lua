-- own: pattern, schema ('' takes it away), the version of the schemas it was decided on. The version rises, so that whoever
-- checked an entry against the schemas before is told to check it again; and a copy that comes late has an old one. Replies
-- the version.
local now, version = redis.call('HGET', SCHEMAS, ARGV[2]) or '', redis.call('HGET', SCHEMAS, '') or '0'
if now == ARGV[3] then return version end
if version ~= ARGV[4] then
  return refuse('STALE', 'the schemas have version ' .. version .. ', not ' .. ARGV[4])
end
redis.call('HINCRBY', SCHEMAS, '', 1)
if ARGV[3] == '' then redis.call('HDEL', SCHEMAS, ARGV[2]) else redis.call('HSET', SCHEMAS, ARGV[2], ARGV[3]) end
return redis.call('HGET', SCHEMAS, '')

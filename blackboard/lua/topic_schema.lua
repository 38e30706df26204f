-- KEYS   12 audit STREAM what people did on the shard
-- own: pattern, schema ('' takes it away), the version of the schemas it was decided on, by whom, for the audit; '' where another
-- shard has that on record. The version rises, so that whoever checked an entry against the schemas before is told to check
-- it again; and a copy that comes late has an old one. Replies the version.
local TRAIL = 100000                       -- entries that the audit of a shard keeps, about
local now, version = redis.call('HGET', SCHEMAS, ARGV[2]) or '', redis.call('HGET', SCHEMAS, '') or '0'
if now == ARGV[3] then return version end
if version ~= ARGV[4] then
  return refuse('STALE', 'the schemas have version ' .. version .. ', not ' .. ARGV[4])
end
redis.call('HINCRBY', SCHEMAS, '', 1)
if ARGV[3] == '' then redis.call('HDEL', SCHEMAS, ARGV[2]) else redis.call('HSET', SCHEMAS, ARGV[2], ARGV[3]) end
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[12], 'MAXLEN', '~', TRAIL, '*', 'verb', ARGV[3] == '' and 'schema.removed' or 'schema.set',
    'subject', ARGV[2], 'by', ARGV[5], 'reason', '', 'at', n2s(MS))
end
return redis.call('HGET', SCHEMAS, '')

-- Puts something on record that no other script changes: operation, stream ('audit' or 'uses'), verb, subject, by whom, why,
-- detail (JSON, not decoded). The same operation again: nothing.
local op, stream = ARGV[1], ARGV[2]
local done = replayed()
if done then return done end
local key = stream == 'uses' and KEYS[15] or KEYS[13]
redis.call('XADD', key, 'MAXLEN', '~', TRAIL, '*', 'verb', ARGV[3], 'subject', ARGV[4], 'key', '', 'by', ARGV[5],
  'reason', ARGV[6], 'at', digits(NOW), 'detail', ARGV[7])
redis.call('SET', KEYS[10], cjson.encode({op}), 'EX', KEEP_REPLY_SECONDS)
return {op}

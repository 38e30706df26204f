-- Sets what turns signals into probabilities on this board: operation, JSON text ('' for what is shipped), by whom, and the
-- numbers it was made from, for the audit (JSON).
local op, text, by, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local done = replayed()
if done then return done end
local reply = {'0'}
if (redis.call('HGET', KEYS[20], 'calibration') or '') ~= text then
  reply = {'1'}
  redis.call('HSET', KEYS[20], 'calibration', text, 'calibration_rev', digits(math.max(learnt('calibration_rev') + 1, NOW)))
  audit('calibrated', 'matching', '', by, '', detail)
end
redis.call('SET', KEYS[10], cjson.encode(reply), 'EX', KEEP_REPLY_SECONDS)
return reply

-- A person's answer to a request that would carry secrets: id, 'approved' or 'refused', by whom, why, detail for the audit (JSON,
-- not decoded). {'1'} when that is new, {'0'} when it was so already.
local id, answer, by, reason, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local raw = redis.call('HGET', KEYS[16], id)
if not raw then return refuse('UNKNOWN', 'no request ' .. id .. ' waits on this board') end
local known = cjson.decode(raw)
if known.state == answer then return {'0'} end
if known.state ~= 'waiting' then return refuse('CONFLICT', 'request ' .. id .. ' was ' .. known.state .. ' already') end
if NOW >= tonumber(known['until']) then return refuse('EXPIRED', 'request ' .. id .. ' was not answered in time; its task ends') end
known.state, known.at, known.by, known.reason = answer, digits(NOW), by, reason
redis.call('HSET', KEYS[16], id, cjson.encode(known))
audit('secret.' .. answer, known.task, '', by, reason, detail)
return {'1'}

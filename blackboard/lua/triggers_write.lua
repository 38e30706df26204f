-- KEYS   1 triggers HASH, as in _entry_board
-- ARGV   1 capability, 2 revision of the catalog it was read at, 3 how many, then key and trigger, as JSON, of each.
-- The triggers of a capability's active version take the place of those it had. What was read at an earlier revision comes too
-- late. Whoever compared an entry with the triggers there were before is told to compare it again. Replies the version.
local name, revision, n = ARGV[1], ARGV[2], tonumber(ARGV[3])
local version = redis.call('HGET', KEYS[1], '') or '0'
local before = redis.call('HGET', KEYS[1], 'c:' .. name)
if not before and n == 0 then return version end
local at, keys = string.match(before or '0', '^(%d+)(.*)$')
if before and tonumber(at) >= tonumber(revision) then return version end
local list = {}
for i = 1, n do list[i] = ARGV[2 + 2 * i] end
local now = #list > 0 and ' ' .. table.concat(list, ' ') or ''
redis.call('HSET', KEYS[1], 'c:' .. name, revision .. now)
if now == keys then return version end
for key in string.gmatch(keys, '%S+') do redis.call('HDEL', KEYS[1], 't:' .. key) end
for i = 1, n do redis.call('HSET', KEYS[1], 't:' .. list[i], ARGV[3 + 2 * i]) end
redis.call('HINCRBY', KEYS[1], '', 1)
return redis.call('HGET', KEYS[1], '')

-- How most calls end: with success in their first attempt, and nothing happened to them that their worker did not see. Does what
-- finish() does, to the byte but for the order of fields; a test holds the two against each other. It stands behind nothing, so
-- that what ends most often pays for no more than it needs.
-- KEYS   1 tasks, 2 data, 3 lease, 4 due, 5 ev, 6 runs, as in _board; of the run 7 log, 8 open; where a version has the outcome
--        counted, 9 outcomes, 10 use
-- ARGV   1 task, 2 the header as its claim had it, which has none of the fields that make an end more than what is written here,
--        3 completion; then capability|version, ms and tokens it took
-- Replies version of the task and 1. Nothing: this end is another one, for `complete` to make; nothing was written.
local CLAIMED, GOING = '{"state":"claimed","ver":2,', '{"state":"running","ver":1,'
local id, seen, subject = ARGV[1], ARGV[2], ARGV[4]
if redis.call('HGET', KEYS[1], id) ~= seen or string.sub(seen, 1, #CLAIMED) ~= CLAIMED then return end
local run = string.match(id, '^(.*)/')
local r = redis.call('HGET', KEYS[6], run)
-- A run that goes on in its first version is a call, and nobody paused or cancelled it. Nor does a quota count it: a claim
-- under quotas leaves another header, and one whose quotas are gone belongs to a run that was written anew with them.
if not r or string.sub(r, 1, #GOING) ~= GOING then return end

local T = redis.call('TIME')
redis.call('ZREM', KEYS[3], id)
redis.call('ZREM', KEYS[4], 't:' .. id, 'r:' .. run)
redis.call('HDEL', KEYS[2], id)            -- a checkpoint it has not: an attempt that keeps one has written its header anew
redis.call('SREM', KEYS[8], id)
if subject then
  redis.call('HINCRBY', KEYS[9], subject .. '|succeeded', 1)
  redis.call('HINCRBY', KEYS[10], 's:' .. subject .. '|n', 1)
  redis.call('HINCRBY', KEYS[10], 's:' .. subject .. '|ms', ARGV[5])
  redis.call('HINCRBY', KEYS[10], 's:' .. subject .. '|tokens', ARGV[6])
end
redis.call('HSET', KEYS[1], id, '{"state":"succeeded","ver":3,' .. string.sub(seen, #CLAIMED + 1))
redis.call('HSET', KEYS[6], run, '{"state":"succeeded","ver":2,"ended":' .. T[1]
  .. string.format('%03.0f', math.floor(T[2] / 1000)) .. ',' .. string.sub(r, #GOING + 1))
local at = redis.call('XADD', KEYS[7], '*', 'type', 'task.completed', 'subject', id, 'id', id .. ':3', 'data', ARGV[3])
redis.call('XADD', KEYS[5], '*', 'type', 'task.completed', 'subject', id, 'id', id .. ':3', 'run', run, 'at', at, 'data', '')
at = redis.call('XADD', KEYS[7], '*', 'type', 'run.completed', 'subject', run, 'id', run .. ':2',
  'data', '{"rounds":0,"status":"succeeded"}')
redis.call('XADD', KEYS[5], 'MAXLEN', '~', '100000', '*', 'type', 'run.completed', 'subject', run, 'id', run .. ':2',
  'run', run, 'at', at, 'data', '')
return {3, 1}

-- own: task, fence the token was made under, by whom, hash of what is said, 'succeeded', 'failed' or 'alive'; then, where it ends
-- the attempt, completion, what to tell of its error, delay ms ('' where no attempt follows), the error as an event has it, key of
-- the retry rule ('' none), its most failures, its age in ms ('' none), and what _results takes.
-- Whoever holds the token of an attempt ends it, or says that it goes on. Exactly one end counts; the same once more has no
-- effect; any other word is refused, and the first refusal is on record. Replies '' or the code of a refusal, and words for it or,
-- of a sign of life, in how many ms the next is due.
local id, fence, by, said, status = ARGV[A], ARGV[A + 1], ARGV[A + 2], ARGV[A + 3], ARGV[A + 4]
local t = get(id)
local mine
for _, one in ipairs(t and t.tk or {}) do
  if one.f == fence then mine = one end
end
if not mine then return refuse('UNKNOWN', 'no attempt can be ended with this token') end
if mine.d and mine.d == said then return {'', '0'} end
local due = t.state == 'waiting' and tonumber(redis.call('ZSCORE', WAIT, id) or '0')
local code, why
if mine.d then
  code, why = 'CONFLICT', 'this attempt at ' .. id .. ' has an outcome already, and another one'
elseif terminal(t) then
  code, why = 'OVER', 'task ' .. id .. ' ended as ' .. t.state
elseif t.cxl then
  code, why = 'OVER', 'task ' .. id .. ' was told to stop'
elseif t.fence ~= fence or t.state ~= 'claimed' and t.state ~= 'waiting' then
  code, why = 'OVER', 'this attempt at ' .. id .. ' is over, and another one follows'
elseif due and due <= MS then
  code, why = 'OVER', 'the time for this attempt at ' .. id .. ' is over'
end
if code then
  if not mine.no and status ~= 'alive' then
    mine.no = 1
    redis.call('HSET', TASKS, id, cjson.encode(t))
    audit('callback.refused', id, by, why, t.tenant)
  end
  return {code, why}
end
if status == 'alive' then
  if not due then return {'', '0'} end
  local next = math.min(t.cb.till, MS + (t.cb.every or t.cb.till))
  redis.call('ZREM', WAIT, '')               -- a first write that a full server still takes
  redis.call('ZADD', WAIT, n2s(next), id)
  return {'', n2s(next - MS)}
end
local old = reported and reported(t, A + 12)
if old then return old end
called_back(id, t)
mine.d = said
audit('callback.answered', id, by, status, t.tenant)
bump(id, t, t.state, 'callback.answered', cjson.encode({task = id, attempt = t.att, status = status, by = by}), true)
local completion, failure, delay = ARGV[A + 5], told(ARGV[A + 6]), tonumber(ARGV[A + 7])
if not delay then
  finish(id, t, status, completion, failure)
else
  local rule
  if ARGV[A + 9] ~= '' then rule = {key = ARGV[A + 9], max = tonumber(ARGV[A + 10]), age = tonumber(ARGV[A + 11])} end
  again_or_end(id, t, status, completion, failure, delay, ARGV[A + 8], rule)
end
return {'', '0'}

-- own: task, fence, ms at the most, ms between two signs of life ('' where none is asked for), what follows silence (JSON: late and
-- silent, each a retry rule as expire has it), where what it brings comes from (JSON list). The handler has done what it can and the
-- answer comes from outside: the task waits for it, with no lease and no place among attempts. Time stands still for it and its run.
local id = ARGV[A]
local t, no, other = held(id, ARGV[A + 1])
if not t then
  local last = other and other.tk and other.tk[#other.tk]
  if last and last.f == ARGV[A + 1] and (other.state == 'waiting' or last.d) then return 0 end
  return no
end
if t.cxl then
  finish(id, t, 'cancelled', verdict(t, 'cancelled', 'cancelled', t.word or 'cancelled before it waited for an answer from outside'))
  return 1
end
local mine = t.tk and t.tk[#t.tk]
if not mine or mine.f ~= t.fence then return refuse('TOKEN', id .. ' has no token for this attempt') end
let_go(id, t)
local ms, every = tonumber(ARGV[A + 2]), tonumber(ARGV[A + 3])
mine.s = cjson.decode(ARGV[A + 5])
t.cb = cjson.decode(ARGV[A + 4])
t.cb.till, t.cb.every = MS + ms, every
stand_still(id, t, get_run(t.run), ms, true)
redis.call('ZADD', WAIT, n2s(MS + math.min(ms, every or ms)), id)
bump(id, t, 'waiting', 'callback.waiting', cjson.encode({task = id, attempt = t.att, until_ms = t.cb.till,
  heartbeat_seconds = every and every / 1000}), true)
return 1

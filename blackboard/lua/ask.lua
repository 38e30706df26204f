-- own: task, fence, ms, what is asked of whom (JSON: kind, ms, what counts without an answer, by, delegate and the dms after which
-- that one may answer, taint, version of the capability where nobody had chosen one; none that is empty), input, as JSON that is
-- not decoded. Puts a task to rest until a person answered or the ms are over: no lease, no attempt spent. Time stands still for
-- it and for its run. What it was given stands where its input stood, so that what is answered is about exactly that.
local id, ms = ARGV[A], tonumber(ARGV[A + 2])
local t, no, other = held(id, ARGV[A + 1])
if not t then
  if other and other.fence == ARGV[A + 1] and (other.ask or other.said) then return 0 end
  return no
end
if t.cxl then
  finish(id, t, 'cancelled', verdict(t, 'cancelled', 'cancelled', t.word or 'cancelled before a person was asked', true))
  return 1
end
local r = get_run(t.run)
let_go(id, t)
t.att = t.att - 1
t.ask = cjson.decode(ARGV[A + 3])
t.ask.at = MS
t.version, t.ask.version = t.version or t.ask.version, nil
redis.call('HSET', DATA, id, ARGV[A + 4])
stand_still(id, t, r, ms)
t.state = 'delayed'
if r.pz then rest(id, t, ms) else redis.call('ZADD', WAIT, n2s(MS + ms), id) end
bump(id, t, t.state, 'approval.asked', splice('input', ARGV[A + 4], {task = id, kind = t.ask.kind, capability = t.cap,
  version = t.version, until_ms = MS + ms, otherwise = t.ask.otherwise, by = t.ask.by, delegate = t.ask.delegate,
  delegate_ms = t.ask.dms and MS + t.ask.dms, taint = t.ask.taint}), true)
return 1

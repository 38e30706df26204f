-- own: task, fence, hash of a token, version of the capability ('' where nobody has chosen one), where what comes with it comes
-- from (JSON list), may the task be repeated (1 or 0). From here on the attempt can be ended with the token, as callback_said does
-- it. A task remembers the tokens of its last attempts (tk), so that whoever shows an old one is told why it counts no more.
local MOST = 8
local t, no = held(ARGV[A], ARGV[A + 1])
if not t then return no end
t.tk = t.tk or {}
local last = t.tk[#t.tk]
if last and last.f == t.fence and last.h == ARGV[A + 2] then return 0 end
if #t.tk == MOST then table.remove(t.tk, 1) end
t.tk[#t.tk + 1] = {f = t.fence, h = ARGV[A + 2], s = cjson.decode(ARGV[A + 4]), again = ARGV[A + 5] == '1' and 1 or nil}
if ARGV[A + 3] ~= '' then t.version = t.version or ARGV[A + 3] end
redis.call('HSET', TASKS, ARGV[A], cjson.encode(t))
return 1

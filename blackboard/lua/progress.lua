-- own: task, fence, sequence number in this claim, event type, data, checkpoint ('' leaves the last one).
local t, no = held(ARGV[A], ARGV[A + 1])
if not t then return no end
local seq = tonumber(ARGV[A + 2])
if t.pfence == t.fence and (t.pseq or 0) >= seq then return 0 end
t.pfence = t.fence
t.pseq = seq
if ARGV[A + 5] ~= '' then redis.call('HSET', CKPT, ARGV[A], ARGV[A + 5]) end
bump(ARGV[A], t, 'claimed', ARGV[A + 3], ARGV[A + 4], true)
return 1

-- Signs a version that is there; manifest and exam given must be those the signature speaks of.
local op, name, sha, manifest, exam = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local signature, key, public, created, by = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local done = replayed()
if done then return done end

local id = name .. '|' .. sha
local h = header(id)
if not h then return refuse('UNKNOWN', 'no version ' .. sha .. ' of ' .. name) end
if h.revoked then return refuse('REVOKED', name .. ' ' .. sha .. ' was revoked and stays so; register changed content') end
if (redis.call('HGET', KEYS[4], id) or '') ~= exam or redis.call('HGET', KEYS[3], id) ~= manifest then
  return refuse('CONFLICT', 'manifest or exam record of ' .. name .. ' changed meanwhile; look at it and sign again')
end
local no = unfit(key, created)
if no then return no end

sign(id, h, signature, key, public, by)
put(id, h)
announce('signed', name, sha, h.state, key)
return answer(id, redis.call('HGET', KEYS[5], name) or '')

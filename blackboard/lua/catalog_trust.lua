-- Trusts a key on this board: {'1'} when it is new, {'0'} when it was trusted already.
local key, public, by, note = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local entry = trusted(key)
if entry then
  if revoked(entry, NOW) then return refuse('REVOKED', 'the key ' .. key .. ' was revoked and stays so; make a new one') end
  if entry.public == public then return {'0'} end
end
trust(key, public, by, note)
return {'1'}

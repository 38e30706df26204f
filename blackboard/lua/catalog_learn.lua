-- Remembers needs that capabilities served: how many to keep of each, run, tenant, when the run ended (ms), then name, digest
-- and need of each. Of the same need the newest stays, of all the newest, so the same again and in any order comes to the same.
-- Replies how many of them changed anything. A capability of another tenant, or that is not there, learns nothing.
local most, run, tenant, at = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local changed = 0
for i = 5, #ARGV, 3 do
  local name, digest = ARGV[i], ARGV[i + 1]
  local owner = redis.call('HGET', KEYS[7], name)
  if owner == '*' or owner == tenant then
    local field = name .. '|' .. tenant
    local new = {at = at, run = run, digest = digest, text = table.concat({at, run, digest, ARGV[i + 2]}, '\31')}
    local kept = {}
    for _, one in ipairs(lessons(field)) do
      if one.digest ~= digest then
        kept[#kept + 1] = one
      elseif tonumber(one.at) > tonumber(at) or (one.at == at and one.run >= run) then
        new = one
      end
    end
    kept[#kept + 1] = new
    table.sort(kept, function(a, b)
      if a.at ~= b.at then return tonumber(a.at) > tonumber(b.at) end
      return a.digest < b.digest
    end)
    while #kept > most do table.remove(kept) end
    if teach(field, kept) then changed = changed + 1 end
  end
end
return {digits(changed)}

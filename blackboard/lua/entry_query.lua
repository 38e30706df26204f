-- own: 'topic' or 'link', lower and upper bound in that index, pattern, how many. Read only, of bounded length: the
-- last position of the log, the member to go on after or '', ms until the first lease lapses of what is held and would fit
-- otherwise, or '', then id, header, fact and member of each live entry.
local index = ARGV[2] == 'link' and LINKS or INDEX
local newest = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
-- The pattern as one of Lua's, which one comparison tells: as topics.covers() decides it for a topic.
local wanted = '^' .. string.gsub(ARGV[5], '[%-.*>]', {['-'] = '%-', ['.'] = '%.', ['*'] = '[^.]+', ['>'] = '.+'}) .. '$'
local out, bytes, from = {newest and newest[1] or '0-0', '', ''}, 0, ARGV[3]
for _ = 1, 10 do
  local page = redis.call('ZRANGEBYLEX', index, from, ARGV[4], 'LIMIT', 0, 100)
  for _, text in ipairs(page) do
    local id = string.match(text, '%z([^%z]*)$')
    -- A topic is in its place of the index, which spares the others a look at their header.
    local h, kept = nil, nil
    if index == LINKS or string.find(string.match(text, '^[^%z]*'), wanted) then h, kept = head(id) end
    local fits = h and (index == INDEX or string.find(h.topic, wanted))
    if fits and held(h) and (out[3] == '' or h.till - MS < tonumber(out[3])) then out[3] = n2s(h.till - MS) end
    if fits and live(h) then
      local found = row(id, h, kept)
      found[5] = text
      out[#out + 1] = found
      bytes = bytes + #found[4]
      if #out - 3 >= tonumber(ARGV[6]) or bytes > 1048576 then
        out[2] = text
        return out
      end
    end
    from = '(' .. text
  end
  if #page < 100 then return out end
end
out[2] = string.sub(from, 2)
return out

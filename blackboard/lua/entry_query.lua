-- own: 'topic' or 'link', lower and upper bound in that index, pattern, how many, how the pattern begins up to its first '*', and
-- what stands behind that up to the next '*' or '>', with the byte that ends it ('': nothing does). Read only, of bounded length:
-- the last position of the log, the member to go on after or '', ms until the first lease lapses of what is held and would fit
-- otherwise, or '', then for each live entry five texts: id, header, type and data of its fact, and its member. A list in a list
-- would be sent by a call of the system of its own.
local links, before, behind = ARGV[2] == 'link', ARGV[7], ARGV[8]
local index = links and LINKS or INDEX
local newest = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
-- The pattern as one of Lua's, which one comparison tells: as topics.covers() decides it for a topic.
local wanted = '^' .. string.gsub(ARGV[5], '[%-.*>]', {['-'] = '%-', ['.'] = '%.', ['*'] = '[^.%z]+', ['>'] = '[^%z]+'})
-- A topic is in its place of the index, which spares what does not fit a look at its header.
local named = links and '%z([^%z]*)$' or wanted .. '%z[^%z]*%z([^%z]*)$'
wanted = wanted .. '$'
-- Whether a text stands before another in the index, which sorts by bytes: Lua compares as the language of the system has it.
local function earlier(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end
local most = 5 * tonumber(ARGV[6])
local out, bytes, from = {newest and newest[1] or '0-0', '', ''}, 0, ARGV[3]
for _ = 1, 10 do
  local page = redis.call('ZRANGEBYLEX', index, from, ARGV[4], 'LIMIT', 0, 100)
  for _, text in ipairs(page) do
    local id, h, kept = string.match(text, named), nil, nil
    if id then h, kept = head(id) end
    local fits = h and (not links or string.find(h.topic, wanted))
    if fits and held(h) and (out[3] == '' or h.till - MS < tonumber(out[3])) then out[3] = n2s(h.till - MS) end
    if fits and live(h) then
      local kind, data = fact(h)
      local at = #out
      out[at + 1], out[at + 2], out[at + 3], out[at + 4], out[at + 5] = id, kept, kind, data, text
      bytes = bytes + #data
      if at + 2 >= most or bytes > 1048576 then
        out[2] = text
        return out
      end
    end
    from = '(' .. text
  end
  if #page < 100 then return out end
  -- What stands behind the word of a '*' is in its order among the topics with that word: go on where it is, or at the next word.
  if behind ~= '' then
    local last = page[100]
    local word = string.match(last, '^[^.%z]*%.', #before + 1)
    if word then
      local there = before .. word .. behind
      if earlier(last, there) then
        from = '[' .. there
      elseif string.sub(last, 1, #there) ~= there then
        from = '[' .. before .. string.sub(word, 1, -2) .. '/'
      end
    end
  end
end
out[2] = string.sub(from, 2)
return out

-- Shared by the scripts of entries, behind _entry_keys or, where a run's entries may trigger, _board and _entry_board.
local LABELS = 256                         -- of taint, at most; an entry may inherit those of what it was derived from
local OVER = {succeeded = 1, failed = 1, refused = 1, timed_out = 1, cancelled = 1}

local RUN                                  -- header of the run the entries are of, once closed() has looked
local function head(id)
  local j = redis.call('HGET', HEADS, id)
  if j then return cjson.decode(j), j end
end
local function keep(id, h) redis.call('HSET', HEADS, id, cjson.encode(h)) end
-- Somebody has it under a lease. When that is over, nothing has to be written for the entry to be there again.
local function held(h) return h.state == 'live' and h.till and h.till > MS end
local function live(h) return h.state == 'live' and not (h.exp and h.exp <= MS) and not held(h) end
-- A position so that it sorts as text, as the events of the board have it.
local function place(pos)
  local ms, seq = string.match(pos, '^(%d+)-(%d+)$')
  return string.format('%013.0f-%06.0f', tonumber(ms), tonumber(seq))
end
local function member(id, h) return h.topic .. '\0' .. place(h.first) .. '\0' .. id end
-- Type and data of the fact with the content of an entry.
local function fact(h)
  local kind, data = nil, nil
  local found = redis.call('XRANGE', LOG, h.pos, h.pos)[1][2]
  for i = 1, #found, 2 do
    if found[i] == 'type' then kind = found[i + 1] elseif found[i] == 'data' then data = found[i + 1] end
  end
  return kind, data
end

-- ---- guards: call before the first write ------------------------------------------------------------------------------

-- What this very operation replied before; a refusal where it was another one; nil when it is new.
local function known()
  local said = redis.call('HGET', OPS, ARGV[2])
  if not said then return nil end
  local print, id, ver, pos = string.match(said, '^(%S+) (%S+) (%S+) (%S+)$')
  if print ~= ARGV[3] then
    return refuse('CONFLICT', 'this operation was done already with other content, by entry ' .. id)
  end
  return {id, ver, pos, 0}
end
local function closed()
  if string.find(OWNER, ':', 1, true) then return nil end
  local j = redis.call('HGET', RUNS, OWNER)
  if not j then return refuse('UNKNOWN', 'no run ' .. OWNER .. ' on this board') end
  RUN = cjson.decode(j)
  local state = RUN.state
  if OVER[state] then return refuse('CLOSED', 'run ' .. OWNER .. ' is over (' .. state .. '): its entries stay as they are') end
end
-- Who writes: what the caller says, or the task whose lease it holds. Second value: the refusal.
local function author(by)
  if ARGV[4] == '' then return by end
  local j = redis.call('HGET', TASKS, ARGV[4])
  if not j then return nil, refuse('UNKNOWN', 'no task ' .. ARGV[4] .. ' on this board') end
  local t = cjson.decode(j)
  if t.run ~= OWNER or t.state ~= 'claimed' or t.fence ~= ARGV[5] then
    return nil, refuse('FENCED', ARGV[4] .. ' is ' .. t.state .. ' and no longer held by this claim')
  end
  return {kind = 'task', name = t.cap, version = t.version, task = ARGV[4], run = t.run, attempt = t.att}
end
local function stale(topic)
  local v = tonumber(redis.call('HGET', VERS, topic) or '0')
  if ARGV[6] ~= '' and tonumber(ARGV[6]) ~= v then
    return refuse('STALE', 'topic ' .. topic .. ' has version ' .. n2s(v) .. ', not ' .. ARGV[6])
  end
end
local function unchecked(version)
  local now = redis.call('HGET', SCHEMAS, '') or '0'
  if now ~= version then return refuse('SCHEMAS', now) end
end
-- The header of an entry that may be changed. ver: the version it must have, or ''.
local function changeable(id, ver)
  local h = head(id)
  if not h then return nil, refuse('UNKNOWN', 'no entry ' .. id .. ' on this board') end
  if held(h) then return nil, refuse('LEASED', 'entry ' .. id .. ' is held under a lease; wait until it was confirmed, given back or lapsed') end
  if not live(h) then return nil, refuse('ENDED', 'entry ' .. id .. ' is ' .. (h.state == 'live' and 'expired' or h.state)) end
  if ver ~= '' and tonumber(ver) ~= h.ver then
    return nil, refuse('STALE', 'entry ' .. id .. ' has version ' .. n2s(h.ver) .. ', not ' .. ver)
  end
  return h
end
-- Links lead to entries that are older, so no chain of them comes back; those to other scopes the caller has looked at. The
-- labels of what an entry was derived from are its own as well. first: place of the entry that links, or nil for a new one.
local function linked(given, first)
  local mine, labels, taint = OWNER .. '/e/', {}, {}
  local function label(list)
    for _, one in ipairs(list or {}) do
      if not labels[one] then
        labels[one] = true
        taint[#taint + 1] = one
      end
    end
  end
  label(given.taint)
  for _, link in ipairs(given.links or {}) do
    if string.sub(link.to, 1, #mine) == mine then
      local target = head(link.to)
      if not target then return nil, refuse('LINK', link.to .. ' There is no such entry to link to.') end
      if first and place(target.first) >= place(first) then
        return nil, refuse('LINK', link.to .. ' It is not older than the entry that links to it; post a new entry that links to both.')
      end
      if link.rel == 'derived_from' then label(target.taint) end
    end
  end
  if #taint > LABELS then return nil, refuse('TAINT', 'it would carry more than ' .. LABELS .. ' labels') end
  if #taint > 0 then return taint end
end

-- ---- writes -----------------------------------------------------------------------------------------------------------

-- {"content": <raw>, ...fields}: puts ready JSON into an object without decoding it.
local function splice(raw, fields) return '{"content":' .. raw .. ',' .. string.sub(cjson.encode(fields), 2) end
local function topic_version(topic) return tonumber(redis.call('HGET', VERS, topic) or '0') + 1 end
-- Appends a fact; the first write of every script, so that a full server refuses it whole.
local function tell(kind, id, h, data)
  local event = id .. ':' .. n2s(h.ver)
  h.last = redis.call('XADD', LOG, '*', 'type', kind, 'subject', id, 'id', event, 'data', data)
  redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'type', kind, 'subject', id, 'id', event, 'run', OWNER,
    'at', h.last, 'data', '')
  redis.call('HINCRBY', VERS, h.topic, 1)
end
local function remember(id, h)
  redis.call('HSET', OPS, ARGV[2], ARGV[3] .. ' ' .. id .. ' ' .. n2s(h.ver) .. ' ' .. h.last)
  return {id, n2s(h.ver), h.last, 1}
end
local function linkage(id, h, command)
  for _, link in ipairs(h.links or {}) do
    local text = link.to .. '\0' .. link.rel .. '\0' .. id
    if command == 'ZADD' then redis.call('ZADD', LINKS, 0, text) else redis.call('ZREM', LINKS, text) end
  end
end
local function off(id, h)
  redis.call('ZREM', INDEX, member(id, h))
  redis.call('ZREM', ENDS, id)
  linkage(id, h, 'ZREM')
end
-- Retracted or taken: it stays in the log and is found by its id only.
local function leave(id, h, state, fields)
  h.ver = h.ver + 1
  fields.topic, fields.version, fields.topic_version, fields.at_ms = h.topic, h.ver, topic_version(h.topic), MS
  tell('entry.' .. state, id, h, cjson.encode(fields))
  h.state = state
  h.fence, h.till = fields.fence, nil
  off(id, h)
  keep(id, h)
  return remember(id, h)
end
-- Under a lease, or no more: it stays in the indexes, and live() tells whether it is found.
local function lease(id, h, kind, by, fence, till)
  h.says = h.says or h.ver
  h.ver = h.ver + 1
  h.fence, h.till = fence, till
  tell('entry.' .. kind, id, h, cjson.encode({topic = h.topic, version = h.ver, topic_version = topic_version(h.topic),
    at_ms = MS, author = by, fence = fence, until_ms = till}))
  keep(id, h)
  return remember(id, h)
end

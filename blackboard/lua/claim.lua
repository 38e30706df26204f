-- own: worker, nonce, lease ms, how many. The key after the lanes remembers this worker's last claim: a call that is sent
-- again because its reply was lost gets the same tasks, not more of them.
local LAST = LOG
local nonce, want = ARGV[A + 1], tonumber(ARGV[A + 3])
local till = n2s(MS + tonumber(ARGV[A + 2]))
local function describe(id, t)
  local row = {id, cjson.encode(t), redis.call('HGET', DATA, id) or 'null', redis.call('HGET', CKPT, id) or ''}
  for _, d in ipairs(t.deps or {}) do
    row[#row + 1] = d
    row[#row + 1] = redis.call('HGET', OUT, d) or 'null'
  end
  return row
end
local out = {}
local last = redis.call('GET', LAST)
if last then
  local parts = cjson.decode(last)
  if parts[1] == nonce then
    for i = 2, #parts, 2 do
      local t = get(parts[i])
      if t and t.state == 'claimed' and t.fence == parts[i + 1] then out[#out + 1] = describe(parts[i], t) end
    end
    return out
  end
end
local memory = {nonce}
for i = 1, NL do
  local name = ARGV[1 + i]
  local lane = LANES[name]
  while #out < want do
    local head = redis.call('ZRANGE', lane.q, 0, 0, 'WITHSCORES')
    local tenant = head[1]
    if not tenant then
      -- Tokens left by work that was taken without sleeping would wake sleepers for nothing; work to come rings anew.
      redis.call('DEL', lane.b)
      break
    end
    local found = redis.call('ZRANGEBYLEX', lane.r, '[' .. tenant .. '\0', '(' .. tenant .. '\1', 'LIMIT', 0, 2)
    local id = found[1] and string.match(found[1], '[^%z]*$')
    local t = id and get(id)
    local good = t and t.state == 'ready'
    local vt = tonumber(head[2])
    if good then
      vt = vt + 1
      redis.call('HSET', VT, name .. ':' .. tenant, vt)
    end
    if found[2] then redis.call('ZADD', lane.q, vt, tenant) else redis.call('ZREM', lane.q, tenant) end
    if found[1] then redis.call('ZREM', lane.r, found[1]) end
    if good then
      t.fence = n2s(math.max(tonumber(t.fence) + 1, US))
      t.att = t.att + 1
      t.owner = ARGV[A]
      redis.call('ZADD', LEASE, till, id)
      bump(id, t, 'claimed', 'task.claimed', cjson.encode({attempt = t.att, worker = t.owner, fence = t.fence,
        capability = t.cap, kind = t.kind, key = t.key, version = t.version}), false)
      memory[#memory + 1] = id
      memory[#memory + 1] = t.fence
      out[#out + 1] = describe(id, t)
    end
  end
end
if #out > 0 then redis.call('SET', LAST, cjson.encode(memory), 'PX', 600000) end
return out

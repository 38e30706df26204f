-- Behind _results and _premises: tasks of a run that goes on from another one, which are over as soon as they are posted, as they
-- succeeded there. Each result is taken over once: then TURNS has it. What was taken meanwhile is worked on like any other task.
-- ARGV   how many; then of each the number of its spec, the task it is taken over from, the version that ran there ('' where none
--        is known), completion, and what _results takes of a report, all of it '' where none is entered.
-- Guard: marks the specs, which no worker is to have; or nil and the refusal to reply. at: where in ARGV it begins.
offered = function(at, specs)
  local found, mine = {}, {}
  for i = 1, tonumber(ARGV[at] or '0') do
    local k = at + 9 * i - 8
    local s, from = specs[tonumber(ARGV[k])], ARGV[k + 1]
    local lost = s.made and (s.seen or '') ~= '' and lost_since(s.made, s.seen)
    if ARGV[k + 8] ~= '' and ARGV[k + 8] ~= (redis.call('HGET', SCHEMAS, '') or '0') then
      return nil, refuse('STALE', 'the schemas have changed')
    end
    if not lost and not mine[from] and redis.call('HEXISTS', TURNS, '@' .. from) == 0 then
      mine[from] = true
      s.from, s.need, s.nap = from, (s.need or 0) + 1, nil
      found[#found + 1] = {s.id, k}
    end
  end
  return found
end
-- Each after those it waits for.
take_over = function(found)
  for _, one in ipairs(found) do
    local id, k = one[1], one[2]
    local t = get(id)
    redis.call('HSET', TURNS, '@' .. t.from, '1')
    settle(id, t, 'succeeded', ARGV[k + 3])
    t.version, REPORT = ARGV[k + 2] ~= '' and ARGV[k + 2] or nil, k + 4
    if t.ent then enter(id, t, 'succeeded', ARGV[k + 3]) end
  end
end

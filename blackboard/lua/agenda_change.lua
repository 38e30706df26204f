-- own: run, operation, number of the activation, what (promote, block, unblock, rerate), rating, by whom, reason. What a person
-- decides about an activation that was not picked yet holds from the next pick on, whatever the strategy says.
local DONE = {promote = 'promoted', block = 'blocked', unblock = 'unblocked', rerate = 'rerated'}
local run, op, verb = ARGV[A], ARGV[A + 1], ARGV[A + 3]
RUN = get_run(run)
if not RUN then return refuse('UNKNOWN', 'no run ' .. run .. ' on this board') end
local x = activation(ARGV[A + 2])
if not x then return refuse('UNKNOWN', 'no activation ' .. ARGV[A + 2] .. ' on the agenda of run ' .. run) end
x.ops = x.ops or {}
for _, done in ipairs(x.ops) do
  if done == op then return {x.st, 0} end
end
if not active(RUN) then return refuse('CLOSED', 'run ' .. run .. ' is over (' .. RUN.state .. '): nothing is picked any more') end
if x.st ~= 'waiting' and x.st ~= 'parked' and x.st ~= 'blocked' then
  return refuse('ENDED', 'activation ' .. ARGV[A + 2] .. ' is ' .. x.st .. ' already')
end
if (verb == 'unblock') ~= (x.st == 'blocked') then
  return refuse('STATE', 'activation ' .. ARGV[A + 2] .. ' is ' .. x.st
    .. (x.st == 'blocked' and '; unblock it first' or ', and only what is blocked can be unblocked'))
end
local a = agenda_of()
record(a, run, 'changed', cjson.encode({number = x.q, change = verb, rating = verb == 'rerate' and tonumber(ARGV[A + 4]) or nil,
  by = ARGV[A + 5], reason = ARGV[A + 6], at_ms = MS}))
audit('activation.' .. DONE[verb], run .. '/a/' .. n2s(x.q), ARGV[A + 5], ARGV[A + 6], RUN.tenant)
x.ops[#x.ops + 1] = op
if #x.ops > 8 then table.remove(x.ops, 1) end
if verb == 'block' then
  if x.st == 'parked' then a.p = a.p - 1 else a.w = a.w - 1 end
  x.st, x.why = 'blocked', ARGV[A + 6]
  redis.call('ZREM', WAITING, place_of(x.q))
elseif verb == 'unblock' then
  a.w = a.w + 1
  x.st, x.why = 'waiting', nil
  redis.call('ZADD', WAITING, x.pin or x.rt and score(x.rt) or '-inf', place_of(x.q))
else
  -- What was promoted last stands first; a rating that a person gave is not rated again.
  if verb == 'promote' then x.pin = '-' .. n2s(1e12 + a.ver) else x.pin, x.rt = score(ARGV[A + 4]), ARGV[A + 4] end
  if x.st == 'waiting' then redis.call('ZADD', WAITING, x.pin, place_of(x.q)) end
end
keep_activation(x)
keep_agenda(a)
attend(run, RUN, a)
return {x.st, 1}

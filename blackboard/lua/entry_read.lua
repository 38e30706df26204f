-- own: entries. Read only: the server's time, then id, header, type and data of the fact of each that there is, one after the
-- other. A list in a list would be sent by a call of the system of its own.
local out = {n2s(MS)}
for i = 2, #ARGV do
  local h, kept = head(ARGV[i])
  if h then
    local at = #out
    out[at + 1], out[at + 2] = ARGV[i], kept
    out[at + 3], out[at + 4] = fact(h)
  end
end
return out

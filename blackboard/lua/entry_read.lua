-- own: entries. Read only: the server's time, then id, header and fact of each that there is.
local out = {n2s(MS)}
for i = 2, #ARGV do
  local h, kept = head(ARGV[i])
  if h then out[#out + 1] = row(ARGV[i], h, kept) end
end
return out

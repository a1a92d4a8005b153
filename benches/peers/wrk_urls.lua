-- Asks for all pages of a list, one after the other, and prints how many were answered.
local paths = {}
local at = 0

function init(args)
  for url in io.lines(args[1]) do
    paths[#paths + 1] = wrk.format("GET", url:match("^http://[^/]+(/.*)$"))
  end
end

function request()
  at = at % #paths + 1
  return paths[at]
end

function done(summary)
  print("requests " .. summary.requests)
end

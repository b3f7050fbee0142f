-- Answers GET /api/health: asks every service for its health, and tells what each said. It works while any is down.
--
-- In front of this text stands the list `services`, each the name of its cluster too.

local TIMEOUT_MILLISECONDS = 500
local EMPTY_MESSAGE = "\0\0\0\0\0" -- not compressed, no bytes
local SERVING = "\8\1" -- field 1 (status): SERVING

local function state(handle, service)
  local headers, body = handle:httpCall(service, {
    [":method"] = "POST",
    [":path"] = "/grpc.health.v1.Health/Check",
    [":authority"] = service,
    ["content-type"] = "application/grpc",
    ["te"] = "trailers",
  }, EMPTY_MESSAGE, TIMEOUT_MILLISECONDS)
  local answered = headers[":status"] == "200" and body and string.sub(body, 6) == SERVING
  return answered and "SERVING" or "NOT_SERVING"
end

function envoy_on_request(handle)
  local status, states = "SERVING", {}
  for _, service in ipairs(services) do
    local found = state(handle, service)
    if found ~= "SERVING" then
      status = found
    end
    states[#states + 1] = '"' .. service .. '":"' .. found .. '"'
  end
  handle:respond(
    { [":status"] = status == "SERVING" and "200" or "503", ["content-type"] = "application/json" },
    '{"status":"' .. status .. '","services":{' .. table.concat(states, ",") .. "}}"
  )
end

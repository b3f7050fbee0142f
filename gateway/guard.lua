-- Refuses what the transcoder would drop or mistake without a word: fields and parameters that the request does not
-- have, fields given twice, and parameters that would override the path or the body.
--
-- In front of this text stand the tables `messages`, `paths` and `actions`; `gateway/guard.py` explains them.

local byte, find, gsub, sub = string.byte, string.find, string.gsub, string.sub

local MESSAGE = 1
local MAX_DEPTH, MAX_VIOLATIONS, MAX_NAME = 64, 40, 200
local QUOTE, BACKSLASH, COMMA, COLON = 34, 92, 44, 58
local BRACKET, BRACKET_END, BRACE, BRACE_END = 91, 93, 123, 125
local SPACE, TAB, LINE_FEED, RETURN = 32, 9, 10, 13
local LITERALS = { ["true"] = true, ["false"] = true, ["null"] = true }

-- The bytes of some characters, as a set.
local function bytes(characters)
  local set = {}
  for index = 1, #characters do
    set[byte(characters, index)] = true
  end
  return set
end

local ESCAPES = bytes('"\\/bfnrtu')
local SCALAR = bytes("+-.0123456789Eaeflnrstu") -- of numbers, and of `true`, `false` and `null`
local NUMBER = bytes("-0123456789") -- what a number begins with

-- Answers -----------------------------------------------------------------------------------------------------------

-- A name that a client sent, fit to be shown in JSON.
local function shown(name)
  return (gsub(sub(name, 1, MAX_NAME), '[^%w_.@$%[%]-]', "?"))
end

local function refuse(handle, status, code, message, allow, violations)
  local details = '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"REQUEST_REFUSED",'
    .. '"domain":"portolan.common.v1","metadata":{}}'
  if violations then
    local listed = {}
    for index, violation in ipairs(violations) do
      listed[index] = '{"field":"' .. violation.field .. '","description":"' .. violation.description .. '"}'
    end
    details = details .. ',{"@type":"type.googleapis.com/google.rpc.BadRequest","field_violations":['
      .. table.concat(listed, ",") .. "]}"
  end
  local headers = { [":status"] = status, ["content-type"] = "application/json", ["allow"] = allow }
  handle:respond(headers, '{"code":' .. code .. ',"message":"' .. message .. '","details":[' .. details .. "]}")
end

local function refuse_fields(handle, violations)
  local message = violations[1].field .. ": " .. violations[1].description
  if violations[2] then
    message = message .. ", and " .. #violations - 1 .. " more"
  end
  refuse(handle, "400", 3, message, nil, violations)
end

-- JSON --------------------------------------------------------------------------------------------------------------

-- The body that is read, where reading stands, the way to the value that is read, and what was found wrong.
local text, position, trail, depth, violations

local function malformed(what)
  error({ malformed = what .. " at byte " .. position }, 0)
end

local function report(description)
  if #violations >= MAX_VIOLATIONS then
    return
  end
  local path = ""
  for level = 1, depth do
    local step = trail[level]
    if type(step) == "number" then
      path = path .. "[" .. step .. "]"
    else
      path = path .. (path == "" and "" or ".") .. step
    end
  end
  violations[#violations + 1] = { field = shown(path), description = description }
end

-- The next byte that is no space; nil at the end. Loops over bytes are compiled, patterns are not.
local function skip_spaces()
  local at = position
  local found = byte(text, at)
  while found == SPACE or found == LINE_FEED or found == RETURN or found == TAB do
    at = at + 1
    found = byte(text, at)
  end
  position = at
  return found
end

local function next_byte()
  return skip_spaces() or malformed("the JSON ends too early")
end

-- The content of the string that starts here, as it is written; reading goes on behind it.
local function read_string()
  local start = position + 1
  local at = start
  local found = byte(text, at)
  while found ~= QUOTE do
    if found == BACKSLASH then
      at = at + 1
      if not ESCAPES[byte(text, at)] then
        malformed("the JSON string is broken")
      end
    elseif not found or found < SPACE then
      malformed("the JSON string is broken")
    end
    at = at + 1
    found = byte(text, at)
  end
  position = at + 1
  return sub(text, start, at - 1)
end

local function read_scalar()
  local at = position
  local found = byte(text, at)
  while found and SCALAR[found] do
    at = at + 1
    found = byte(text, at)
  end
  local token = sub(text, position, at - 1)
  if not LITERALS[token] and not (NUMBER[byte(token)] and tonumber(token)) then
    malformed("this is not JSON")
  end
  position = at
end

local read_value

local function read_list(kind, message)
  position = position + 1
  if next_byte() == BRACKET_END then
    position = position + 1
    return
  end
  local index = 0
  while true do
    trail[depth] = index
    read_value(kind, message)
    local found = next_byte()
    position = position + 1
    if found == BRACKET_END then
      return
    elseif found ~= COMMA then
      position = position - 1
      malformed("the JSON list is broken")
    end
    index = index + 1
  end
end

-- The kind and message of this key's value; reports a key that the message does not have or that came before.
local function check_key(kind, message, seen, key, given)
  local name, value_kind, value_message = key, message and MESSAGE, message
  if kind == MESSAGE then
    local field = messages[message][key]
    if not field then
      report("the request has no such field")
      return nil, nil
    end
    name, value_kind, value_message = field[1], field[2], field[3]
  end
  if seen[name] then
    report("the field is given twice")
  elseif given and given[name] then
    report("the path gives this field")
  end
  seen[name] = true
  return value_kind, value_message
end

local function read_object(kind, message, given)
  position = position + 1
  if next_byte() == BRACE_END then
    position = position + 1
    return
  end
  local seen = kind and {}
  while true do
    if next_byte() ~= QUOTE then
      malformed("a JSON object needs a name in quotes")
    end
    local key = read_string()
    local value_kind, value_message
    trail[depth] = key
    if kind then
      value_kind, value_message = check_key(kind, message, seen, key, given)
    end
    if next_byte() ~= COLON then
      malformed("a JSON name needs a colon and a value")
    end
    position = position + 1
    read_value(value_kind, value_message)
    local found = next_byte()
    position = position + 1
    if found == BRACE_END then
      return
    elseif found ~= COMMA then
      position = position - 1
      malformed("the JSON object is broken")
    end
  end
end

-- Reads a value that belongs to a field of a kind: a message, a map, or, without a kind, anything.
read_value = function(kind, message, given)
  local found = next_byte()
  if found == QUOTE then
    read_string()
  elseif found == BRACE or found == BRACKET then
    depth = depth + 1
    if depth > MAX_DEPTH then
      malformed("the JSON is nested too deeply")
    end
    if found == BRACE then
      read_object(kind, message, given)
    else
      read_list(kind, message)
    end
    depth = depth - 1
  else
    read_scalar()
  end
end

-- Reads a whole body. Returns what is wrong with it: a list of violations, or a sentence when it is no JSON object.
local function check_body(body, rule)
  text, position, trail, depth, violations = body, 1, {}, 0, {}
  if rule.field then
    trail[1], depth = rule.field, 1
  end
  local fine, problem = pcall(function()
    if next_byte() ~= BRACE then
      malformed("the body must be a JSON object, and something else stands")
    end
    read_value(MESSAGE, rule.message, rule.given)
    if skip_spaces() then
      malformed("something follows the JSON object")
    end
  end)
  text = nil
  if fine then
    return violations
  elseif type(problem) == "table" then
    return nil, problem.malformed
  end
  error(problem, 0)
end

-- Paths and parameters ----------------------------------------------------------------------------------------------

-- The rule of a path, found as the transcoder finds it: words before variables, an action as a part of its own.
local function look_up(node, parts, at, verb)
  local part = parts[at]
  if not part then
    return node[1] and node[1][verb]
  end
  local child, rule = node[part], nil
  if child then
    rule = look_up(child, parts, at + 1, verb)
  end
  if not rule and node["*"] then
    rule = look_up(node["*"], parts, at + 1, verb)
  end
  return rule
end

local function split(path)
  local parts, action = {}, nil
  for part in string.gmatch(path, "/([^/]*)") do
    parts[#parts + 1] = part
  end
  local word, suffix = string.match(parts[#parts], "^(.*):([^:]*)$")
  if word and actions[suffix] then
    parts[#parts], parts[#parts + 1], action = word, suffix, suffix
  end
  return parts, action
end

local function find_rule(path, verb)
  local parts, action = split(path)
  if parts[#parts] == "" then
    return nil, nil
  end
  local rule = look_up(paths, parts, 1, verb)
  if rule and rule.action == action then
    return rule, nil
  end
  local allowed = {}
  for _, other in ipairs({ "DELETE", "GET", "PATCH", "POST", "PUT" }) do
    local found = look_up(paths, parts, 1, other)
    if found and found.action == action then
      allowed[#allowed + 1] = other
    end
  end
  return nil, allowed[1] and table.concat(allowed, ", ")
end

local function decode(name)
  return (gsub(gsub(name, "+", " "), "%%(%x%x)", function(code)
    return string.char(tonumber(code, 16))
  end))
end

local function check_query(query, rule)
  local wrong, seen = {}, {}
  for pair in string.gmatch(query, "[^&]+") do
    local key = decode(string.match(pair, "^[^=]*"))
    local parameter = rule.query[string.match(key, "^[^.]*")]
    local problem
    if not parameter then
      problem = "the query may not give this field"
    elseif seen[key] and not parameter.repeated then
      problem = "the parameter is given twice"
    end
    seen[key] = true
    if problem and #wrong < MAX_VIOLATIONS then
      wrong[#wrong + 1] = { field = shown(key), description = problem }
    end
  end
  return wrong
end

-- ---------------------------------------------------------------------------------------------------------------------

function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get(":path")
  local path, query = string.match(target, "^([^?]*)%??(.*)$")
  local rule, allow = find_rule(path, headers:get(":method"))
  if not rule then
    if allow then
      return refuse(handle, "405", 12, "this path is served for " .. allow .. " only", allow)
    end
    return refuse(handle, "404", 5, "nothing is served at this path")
  end
  if find(headers:get("content-type") or "", "^application/grpc") then
    return refuse(handle, "415", 3, "this path takes JSON; a gRPC call goes to the path of its method")
  end
  if query ~= "" then
    local wrong = check_query(query, rule)
    if wrong[1] then
      return refuse_fields(handle, wrong)
    end
  end
  if rule.raw then
    return
  end
  local body = handle:body()
  if not body or body:length() == 0 then
    return
  end
  if not rule.message then
    return refuse(handle, "400", 3, "this path takes no body")
  end
  local wrong, problem = check_body(body:getBytes(0, body:length()), rule)
  if problem then
    return refuse(handle, "400", 3, problem)
  elseif wrong[1] then
    return refuse_fields(handle, wrong)
  end
end

"""The part of a check that runs in the proxy: answers of the mixer are kept there for as long as they hold.

What the mixer says of an answer, in its dynamic metadata (the namespace of ``ext_authz``):

    valid    milliseconds that it holds; 0: do not keep it
    uses     how many requests it is good for
    inputs   what it depends on: what was really looked at to get it, each as KIND or KIND:NAME (``EXTRACTORS``)
    status   the HTTP status of a refusal; none if the request goes on
    body, headers   of that refusal; headers as a list of [name, value]
    refused_by   the rules that refuse, as NAME.NAMESPACE with commas between: for the access log
    request, response   header operations of an answer: lists of [operation, name, value]

So a kept answer is found by the values of its inputs, as they are in the request at hand. They are read by the same
code when an answer is kept and when it is looked for; the first answer that depends on other inputs than those before
is therefore not kept, as its request was not read so. Every value carries its length in the key, so that no two lists
of values make the same key; an input that is absent differs from an empty one. Kept answers of another generation of
rules count for nothing. Each worker of a proxy keeps its own: ``LIMIT`` at most, the oldest half is forgotten first.

The text is Lua for Envoy's filter. It stands before the filter that asks, and tells it by a note whether to ask, along
with what the proxy knows and the asking filter would not tell: what the client is called (by its certificate), and the
address that the request came from first.
"""

from __future__ import annotations

from lateen.envoy.peer import CALLER_STATE

NOTES = "lateen.mixer"
KEYS = "lateen.mixer.keys"
ASK = "ask"
ANSWERS = "envoy.filters.http.ext_authz"
TOKENS = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
REFUSED_BY = "refused_by"
"""Where the rules that refused a request are noted, under ``NOTES``."""
LIMIT = 4096
SHAPES = 16

_NAMES = {
    "LIMIT": LIMIT,
    "SHAPES": SHAPES,
    "TOKENS": TOKENS,
    "PAYLOAD": PAYLOAD,
    "NOTES": NOTES,
    "KEYS": KEYS,
    "ASK": ASK,
    "ANSWERS": ANSWERS,
    "REFUSED_BY": REFUSED_BY,
    "CALLER": CALLER_STATE,
}
_TEXT = """
local LIMIT, SHAPES = @LIMIT@, @SHAPES@
local shapes, count, young, old, size, generation = {}, 0, {}, {}, 0, nil

local function header(handle, name)
  local headers = handle:headers()
  local many = headers:getNumValues(name)
  if many == 0 then return nil end
  if many == 1 then return headers:get(name) end
  local values = {}
  for index = 1, many do values[index] = headers:getAtIndex(name, index - 1) end
  return table.concat(values, ",")
end

local function claim(handle, name)
  local token = handle:streamInfo():dynamicMetadata():get("@TOKENS@")
  local value = token and token["@PAYLOAD@"]
  for part in string.gmatch(name, "[^\\031]+") do
    if type(value) ~= "table" then return nil end
    value = value[part]
  end
  if value == nil then return nil end
  if type(value) ~= "table" then return type(value) .. tostring(value) end
  local texts = {}
  for index, one in ipairs(value) do
    local text = tostring(one)
    texts[index] = #text .. ":" .. text
  end
  return "list" .. table.concat(texts, ",")
end

local function host_of(address)
  return address and (string.match(address, "^%[?(.-)%]?:%d+$") or address)
end

local function told(handle, name)
  local found, value = pcall(function() return handle:streamInfo():filterState():get(name) end)
  if found then return value end
end

local EXTRACT = {
  header = header,
  claim = claim,
  principal = function(handle)
    local tls = handle:streamInfo():downstreamSslConnection()
    local names = tls and tls:uriSanPeerCertificate()
    return names and table.concat(names, "\\031") or nil
  end,
  address = function(handle) return host_of(handle:streamInfo():downstreamDirectRemoteAddress()) end,
  origin = function(handle) return host_of(handle:streamInfo():downstreamRemoteAddress()) end,
  server_name = function(handle) return handle:streamInfo():requestedServerName() end,
  names = function(handle)
    local caller = told(handle, "@CALLER@")
    return caller and string.match(caller, "^%S* (%S+) ")
  end,
  protocol = function(handle) return handle:streamInfo():protocol() end,
}

local function learn(inputs)
  local id = table.concat(inputs, "\\030")
  if shapes[id] or count >= SHAPES then return end
  local parts = {}
  for index, input in ipairs(inputs) do
    local kind, name = string.match(input, "^(%l[%l_]*):?(.*)$")
    if not kind or not EXTRACT[kind] then return end
    parts[index] = {EXTRACT[kind], name}
  end
  count = count + 1
  shapes[id] = parts
end

local function key_of(handle, id, parts)
  local texts = {id}
  for index, part in ipairs(parts) do
    local value = part[1](handle, part[2])
    texts[index + 1] = value == nil and "-" or #value .. ":" .. value
  end
  return table.concat(texts, "\\029")
end

local function keep(key, answer)
  if size >= LIMIT / 2 then
    old, young, size = young, {}, 0
  end
  if not young[key] then size = size + 1 end
  young[key] = answer
end

local function operate(headers, operations)
  for _, operation in ipairs(operations or {}) do
    if operation[1] == "remove" then headers:remove(operation[2])
    elseif operation[1] == "append" then headers:add(operation[2], operation[3])
    else headers:replace(operation[2], operation[3]) end
  end
end

local function ask(handle, notes, rules, keys)
  notes:set("@NOTES@", "@ASK@", rules)
  for id, key in pairs(keys) do notes:set("@KEYS@", id, key) end
  local origin, names = EXTRACT.origin(handle), EXTRACT.names(handle)
  if origin then notes:set("@NOTES@", "origin", origin) end
  if names then notes:set("@NOTES@", "names", names) end
end

function envoy_on_request(handle)
  local rules = handle:filterContext():get("generation") or "none"
  if rules ~= generation then
    shapes, count, young, old, size, generation = {}, 0, {}, {}, 0, rules
  end
  local notes, now, keys = handle:streamInfo():dynamicMetadata(), handle:timestamp(), {}
  for id, parts in pairs(shapes) do
    local key = key_of(handle, id, parts)
    local answer = young[key] or old[key]
    if answer and answer.till > now and answer.uses > 0 then
      answer.uses = answer.uses - 1
      notes:set("@NOTES@", "kept", true)
      if answer.status then
        notes:set("@NOTES@", "@REFUSED_BY@", answer.by or "")
        local headers = {[":status"] = answer.status}
        for _, pair in ipairs(answer.headers or {}) do headers[pair[1]] = pair[2] end
        handle:respond(headers, answer.body)
      else
        operate(handle:headers(), answer.request)
        if answer.response then notes:set("@NOTES@", "response", answer.response) end
      end
      return
    end
    young[key], old[key], keys[id] = nil, nil, key
  end
  ask(handle, notes, rules, keys)
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local notes = metadata:get("@NOTES@")
  if not notes then return end
  if not notes["@ASK@"] then
    operate(handle:headers(), notes["response"])
    return
  end
  local said = metadata:get("@ANSWERS@")
  if not said or not said["inputs"] then return end
  if said["status"] then metadata:set("@NOTES@", "@REFUSED_BY@", said["@REFUSED_BY@"] or "")
  else operate(handle:headers(), said["response"]) end
  if notes["@ASK@"] ~= generation or not said["valid"] or said["valid"] <= 0 then return end
  local keys = metadata:get("@KEYS@")
  local key = keys and keys[table.concat(said["inputs"], "\\030")]
  if not key then
    learn(said["inputs"])
    return
  end
  keep(key, {
    till = handle:timestamp() + said["valid"], uses = said["uses"] - 1, status = said["status"], body = said["body"],
    headers = said["headers"],
    request = said["request"], response = said["response"], by = said["@REFUSED_BY@"],
  })
end
"""


def _source() -> str:
    text = _TEXT
    for name, value in _NAMES.items():
        text = text.replace(f"@{name}@", str(value))
    return text


SOURCE = _source()

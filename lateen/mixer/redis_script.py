"""The windows of quotas as one Lua script, which Redis runs without anything in between.

Keys: the window's, and the one under which the outcome for a deduplication id is kept (empty for none). Arguments: the
kind of window, its three figures, the amount, whether less is welcome, and for how many milliseconds outcomes are kept.
Times are microseconds of Redis's own clock, so that several servers agree. The answer: granted, left, and microseconds
until there is more (-1: never).
"""

from __future__ import annotations

from lateen.mixer.windows import FixedWindow, RollingWindow, Window

MICROS = 1_000_000
NEVER = -1

SCRIPT = """
local kind, most = ARGV[1], tonumber(ARGV[2])
local a, b = tonumber(ARGV[3]), tonumber(ARGV[4])
local amount, partial, keep = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

if KEYS[2] then
  local known = redis.call('GET', KEYS[2])
  if known then return cjson.decode(known) end
end

local function granted(left)
  if amount <= left then return amount end
  if partial then return math.max(left, 0) end
  return 0
end

local given, left, wait, idle

if kind == 'fixed' then
  local state = redis.call('HMGET', KEYS[1], 'at', 'used')
  local at, used = tonumber(state[1]), tonumber(state[2]) or 0
  local number = a > 0 and math.floor(now / a) or 0
  if at and at > number then number = at end
  if not at or at < number then used = 0 end
  given = granted(most - used)
  used = math.max(used + given, 0)
  left = math.max(most - used, 0)
  wait = left > 0 and 0 or (a > 0 and (number + 1) * a - now or -1)
  idle = a > 0 and (number + 1) * a - now or 0
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', number), 'used', string.format('%.0f', used))
elseif kind == 'rolling' then
  local flat = redis.call('GET', KEYS[1])
  local slots = flat and cjson.decode(flat) or {}
  local current = math.floor(now / b)
  if #slots > 0 and slots[#slots][1] > current then current = slots[#slots][1] end
  local oldest = math.floor((current * b - a) / b)
  local kept, used = {}, 0
  for _, slot in ipairs(slots) do
    if slot[1] >= oldest then
      kept[#kept + 1] = slot
      used = used + slot[2]
    end
  end
  given = granted(most - used)
  if given > 0 then
    if #kept > 0 and kept[#kept][1] == current then
      kept[#kept][2] = kept[#kept][2] + given
    else
      kept[#kept + 1] = {current, given}
    end
  end
  local back = -given
  while back > 0 and #kept > 0 do
    local part = math.min(kept[#kept][2], back)
    back = back - part
    kept[#kept][2] = kept[#kept][2] - part
    if kept[#kept][2] == 0 then table.remove(kept) end
  end
  left = math.max(most - used - given, 0)
  wait = 0
  if left == 0 and #kept > 0 then wait = math.max((kept[1][1] + 1) * b + a - now, 0) end
  idle = a + b
  redis.call('SET', KEYS[1], #kept > 0 and cjson.encode(kept) or '[]')
else
  local state = redis.call('HMGET', KEYS[1], 'at', 'used')
  local at, missing = tonumber(state[1]), tonumber(state[2])
  local rate = a / b
  if at then
    if at > now then now = at end
    missing = math.max(math.min(missing, most) - (now - at) * rate, 0)
  else
    missing = 0
  end
  given = granted(math.floor(most - missing + 1e-9))
  missing = math.max(missing + given, 0)
  left = math.max(math.floor(most - missing + 1e-9), 0)
  wait = left > 0 and 0 or math.max((missing - (most - 1)) / rate, 0)
  idle = most / rate
  redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now), 'used', string.format('%.17g', missing))
end

if idle > 0 then redis.call('PEXPIRE', KEYS[1], math.ceil(idle / 1000) + 1) end
local answer = {given, left, math.ceil(wait)}
if KEYS[2] and keep > 0 then redis.call('SET', KEYS[2], cjson.encode(answer), 'PX', keep) end
return answer
"""


def arguments(window: Window) -> tuple[str | int, ...]:
    """The kind of a window and its figures: most, and two that the kind gives their meaning."""
    if isinstance(window, FixedWindow):
        return ("fixed", window.most, round(window.length * MICROS), 0)
    if isinstance(window, RollingWindow):
        return ("rolling", window.most, round(window.length * MICROS), round(window.slot * MICROS))
    return ("bucket", window.burst, window.refill, round(window.interval * MICROS))

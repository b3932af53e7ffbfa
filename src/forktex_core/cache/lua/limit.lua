-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Several limits on one caller, decided together and on this server's clock, in microseconds.
-- KEYS: the state of each limit (one slot)
-- ARGV: 'take' | 'peek', cost, then for each limit: algorithm, limit, window, burst
-- take returns the wait: 0 when all limits admit the cost (which is then counted in each), else the
--   longest of the waits after which each would admit it; nothing is counted then.
-- peek counts nothing and returns {wait, used by the first limit, used by the second...}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local taking = ARGV[1] == 'take'
local cost = tonumber(ARGV[2])
local wait = 0
local used = {}
local states = {}

-- log: a list of admission times, newest first, never longer than the limit. The cost fits when the
-- entry that would be pushed out by it has left the window.
local function log(i, key, limit, window)
  local blocking = tonumber(redis.call('LINDEX', key, limit - cost) or 0)
  if blocking > now then -- the clock was set back: times of the future would lock the caller out
    if taking then redis.call('DEL', key) end
    blocking = 0
  end
  if not taking then
    local low, high = 0, redis.call('LLEN', key)
    while low < high do
      local middle = math.floor((low + high) / 2)
      if tonumber(redis.call('LINDEX', key, middle)) + window > now then
        low = middle + 1
      else
        high = middle
      end
    end
    used[i] = low
  end
  if blocking + window > now and blocking > 0 then
    return blocking + window - now
  end
  return 0
end

-- buckets: 'start,previous,current'. The previous bucket counts with the share of it that the
-- window still covers, as if its admissions had been spread evenly.
local function buckets(i, key, limit, window)
  local start, previous, current = now, 0, 0
  local stored = redis.call('GET', key)
  if stored then
    local a, b, c = string.match(stored, '(%d+),(%d+),(%d+)')
    start, previous, current = tonumber(a), tonumber(b), tonumber(c)
    local passed = now - start
    if passed >= 2 * window then
      start, previous, current = now, 0, 0
    elseif passed >= window then
      start, previous, current = start + window, current, 0
    elseif passed < 0 then -- the clock was set back
      start = now
    end
  end
  states[i] = {start, previous, current}
  local offset = now - start
  used[i] = math.ceil(previous * (window - offset) / window) + current
  local room = limit - cost - current
  if room >= 0 then
    if previous * (window - offset) <= room * window then return 0 end
    return math.max(1, math.ceil(window - room * window / previous) - offset)
  end
  -- in the next bucket the current one is the previous
  return window - offset + math.max(0, math.ceil(window - (limit - cost) * window / current))
end

-- gcra: the time at which the caller's allowance would be whole again.
local function gcra(i, key, limit, window, burst)
  local interval = math.ceil(window / limit)
  local whole = math.max(now, tonumber(redis.call('GET', key) or 0))
  if whole > now + burst * interval then -- the clock was set back
    whole = now
  end
  used[i] = math.ceil((whole - now) / interval)
  states[i] = whole + cost * interval
  return math.max(0, states[i] - burst * interval - now)
end

for i, key in ipairs(KEYS) do
  local at = 4 * i - 1
  local judge = ARGV[at] == 'log' and log or ARGV[at] == 'buckets' and buckets or gcra
  local limit, window, burst = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  wait = math.max(wait, judge(i, key, limit, window, burst))
end
if not taking then
  return {wait, unpack(used)}
end
if wait > 0 then
  return wait
end

for i, key in ipairs(KEYS) do
  local at = 4 * i - 1
  local limit, window = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local lifetime = math.ceil(window / 1000) + 1
  if ARGV[at] == 'log' then
    local stamp = string.format('%.0f', now)
    local length = 0
    for _ = 1, cost do
      length = redis.call('LPUSH', key, stamp)
    end
    if length > limit then redis.call('LTRIM', key, 0, limit - 1) end
    redis.call('PEXPIRE', key, lifetime)
  elseif ARGV[at] == 'buckets' then
    local state = states[i]
    redis.call('SET', key, string.format('%.0f,%d,%d', state[1], state[2], state[3] + cost),
      'PX', 2 * lifetime)
  else
    local left = math.ceil((states[i] - now) / 1000) + 1
    redis.call('SET', key, string.format('%.0f', states[i]), 'PX', left)
  end
end
return wait

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Ask, for deliveries with limits or with a unique key that ends at the start, whether they may run now.
-- ARGV, for each delivery: lane, entry id, message, '1' when its unique key ends now or '', number of limits, then
--   for each limit: kind (r rate, c concurrency), name, size, window in ms
-- Returns: for each delivery 1 (run it) or 0 (it waits outside the streams, has ended, or is no longer ours).
-- Rates are exact where they are granted: ring A holds the times of the last admissions, and one more is admitted
-- when the oldest of them has left the window. A job that must wait reserves its turn in ring B and is parked till
-- then, so that no job polls; one that comes late to its turn is checked against A again.
-- Concurrency: a job that finds no slot waits in a list, and the slot of the next job that ends is handed to it.
-- A crash before: the deliveries stay pending. After, unseen: slots are held by job ids, so asking again is harmless;
-- an admission of a rate may be counted twice, never too few.

local time = now()

local function ring(name, size)
  local value = redis.call('LINDEX', name, size - 1)
  return value and tonumber(value)
end

local function note(name, at, size, window)
  redis.call('LPUSH', name, at)
  redis.call('LTRIM', name, 0, size - 1)
  redis.call('PEXPIRE', name, window + math.max(0, at - time))
end

local function granted(options, name)
  for _, grant in ipairs(options.g or {}) do
    if grant == name then return true end
  end
end

-- When the rate has its next turn for this job; now or earlier: it may run.
local function turn(options, limit)
  local oldest = ring(key('A:' .. limit.name), limit.size)
  local free = not oldest and time or oldest + limit.window
  if granted(options, limit.name) and free <= time then return time end
  local reserved = ring(key('B:' .. limit.name), limit.size)
  return math.max(time, free, reserved and reserved + limit.window or time)
end

local function wait_for_rates(lane, entry, id, name, options, arguments, rates)
  local due, grants = time, {}
  for _, rate in ipairs(rates) do
    due = math.max(due, turn(options, rate))
    grants[#grants + 1] = rate.name
  end
  if due <= time then return false end
  for _, rate in ipairs(rates) do
    note(key('B:' .. rate.name), due, rate.size, rate.window)
  end
  options.g = grants
  park(id, encode(id, name, options, arguments), due)
  release(id)
  remove(lane, entry)
  return true
end

local function wait_for_slot(lane, entry, id, message, limits)
  for _, limit in ipairs(limits) do
    local slots = key('c:' .. limit.name)
    if redis.call('EXISTS', slots) == 1 and redis.call('HEXISTS', slots, id) == 0 then
      redis.call('HSET', slots, '#', limit.size)
      hand_on(limit.name)
      if redis.call('HLEN', slots) > limit.size then
        redis.call('HSET', key('j'), id, message)
        redis.call('RPUSH', key('w:' .. limit.name), id)
        release(id)
        remove(lane, entry)
        return true
      end
    end
  end
  return false
end

local function admit(lane, entry, message, ends, rates, slots)
  if not claimed(lane, entry) then return 0 end
  local id, name, options, arguments = decode(message)
  if marked(id) then
    cancel(id, name, options)
    remove(lane, entry)
    return 0
  end
  if wait_for_rates(lane, entry, id, name, options, arguments, rates) then return 0 end
  if wait_for_slot(lane, entry, id, message, slots) then return 0 end
  for _, rate in ipairs(rates) do
    note(key('A:' .. rate.name), time, rate.size, rate.window)
    if not granted(options, rate.name) then note(key('B:' .. rate.name), time, rate.size, rate.window) end
  end
  for _, limit in ipairs(slots) do
    redis.call('HSET', key('c:' .. limit.name), '#', limit.size)
    if redis.call('HSET', key('c:' .. limit.name), id, 1) == 1 then hold(id, limit.name) end
  end
  if ends == '1' then unlock(id, options) end
  return 1
end

local verdicts, i = {}, 1
while i <= #ARGV do
  local rates, slots, n = {}, {}, tonumber(ARGV[i + 4])
  for k = i + 5, i + 1 + 4 * n, 4 do
    local limit = { name = ARGV[k + 1], size = tonumber(ARGV[k + 2]), window = tonumber(ARGV[k + 3]) }
    table.insert(ARGV[k] == 'r' and rates or slots, limit)
  end
  verdicts[#verdicts + 1] = admit(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], rates, slots)
  i = i + 5 + 4 * n
end
return verdicts

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- The right to compute an entry: for one caller in the fleet, until its lease runs out.
-- KEYS: entry, lease   ARGV: owner, lease in ms, threshold in ms, 1 to take the lease from anybody
-- An entry that lives longer than the threshold is newer than what the caller saw.
-- returns {1 granted | 0 held by another | 2 newer entry, entry or false, its lifetime in ms}
local entry = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if ARGV[4] == '1' then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {1, entry, left}
end
if entry and left > tonumber(ARGV[3]) then
  return {2, entry, left}
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {1, entry, left}
end
return {0, entry, left}

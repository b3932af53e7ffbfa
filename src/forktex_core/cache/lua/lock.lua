-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- A lock with a fencing token. Tokens grow with every acquisition: they follow the server's clock,
-- so they keep growing when the key that remembers the last one is lost.
-- KEYS: lock, last token
-- ARGV: 'take' owner lifetime-ms | 'extend' owner lifetime-ms | 'release' owner
-- returns {token | 1 | 0, remaining lifetime of another's lock in ms}
if ARGV[1] == 'take' then
  if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3]) then
    return {0, redis.call('PTTL', KEYS[1])}
  end
  local time = redis.call('TIME')
  local token = time[1] * 1000000 + time[2]
  local last = tonumber(redis.call('GET', KEYS[2]) or 0)
  if token <= last then
    token = last + 1
  end
  redis.call('SET', KEYS[2], string.format('%.0f', token), 'PX', 604800000)
  return {token, 0}
end
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return {0, 0}
end
if ARGV[1] == 'extend' then
  return {redis.call('PEXPIRE', KEYS[1], ARGV[3]), 0}
end
return {redis.call('DEL', KEYS[1]), 0}

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- What the owner of a lease may do with it; nobody else's word counts.
-- KEYS: entry, lease   ARGV: owner, 'fill' entry lifetime-ms | 'keep' lease-ms | 'drop' | 'clear'
-- returns 1 when the caller still owned the lease
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'keep' then
  return redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
if ARGV[2] == 'fill' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
elseif ARGV[2] == 'clear' then
  redis.call('UNLINK', KEYS[1])
end
redis.call('DEL', KEYS[2])
return 1

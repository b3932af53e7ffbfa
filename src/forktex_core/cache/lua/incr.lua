-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- A counter whose lifetime begins when it is created.
-- KEYS: counter   ARGV: by, lifetime in ms   returns the new value
local made = redis.call('EXISTS', KEYS[1]) == 0
local value = redis.call('INCRBY', KEYS[1], ARGV[1])
if made then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return value

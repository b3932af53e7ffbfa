-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- Tokens of tags, made when missing; they outlive every entry that carries them.
-- KEYS: tag...   ARGV: lifetime in ms, new token...   returns the tokens
local tokens = {}
for i, key in ipairs(KEYS) do
  tokens[i] = redis.call('GET', key)
  if not tokens[i] then
    tokens[i] = ARGV[i + 1]
    redis.call('SET', key, tokens[i], 'PX', 2 * ARGV[1])
  elseif redis.call('PTTL', key) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, 2 * ARGV[1])
  end
end
return tokens

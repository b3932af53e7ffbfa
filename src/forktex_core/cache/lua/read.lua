-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- An entry and the rest of its lifetime, with the tokens of its tags.
-- KEYS: entry, tag...   returns {entry or false, lifetime in ms, token or false...}
local found = {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
for i = 2, #KEYS do
  found[i + 1] = redis.call('GET', KEYS[i])
end
return found

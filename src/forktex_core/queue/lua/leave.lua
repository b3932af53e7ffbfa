-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
-- A worker leaves: what it still holds goes back, without counting against the jobs.
-- ARGV: worker, deliveries before a job is a dead letter, dead letters to keep
-- Returns: 1 when all is done, 0 to call again (a call moves at most 500 jobs).
-- A crash before or between: its sign of life expires, and the rest is taken back as from a dead worker.

local left = take_all_back(ARGV[1], false, tonumber(ARGV[2]), ARGV[3], 500)
if left == 0 then return 0 end
forget_worker(ARGV[1])
return 1

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: pause_run
SELECT * FROM {schema}.pause_run($1, $2)

-- name: resume_run
SELECT * FROM {schema}.resume_run($1)

-- name: rewind_run
SELECT * FROM {schema}.rewind_run($1, $2, $3, $4)

-- name: fork_run
SELECT * FROM {schema}.fork_run($1, $2, $3, $4, $5, $6, $7)

-- name: unserved
-- What no living worker serves: unfinished runs by workflow, version and queue. It reads all that is unfinished.
SELECT r.workflow, r.version, r.queue, count(*) AS runs, min(r.created_at) AS oldest,
       (array_agg(r.id ORDER BY r.id))[1:10] AS first_runs
FROM {schema}.run r
WHERE r.finished_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM {schema}.worker w WHERE w.ended_at IS NULL AND r.queue = ANY (w.queues) AND r.lane = ANY (w.lanes)) /*visible r*/
GROUP BY r.workflow, r.version, r.queue ORDER BY r.workflow, r.version, r.queue

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: ensure_queue
INSERT INTO {schema}.queue (name) VALUES ($1) ON CONFLICT DO NOTHING

-- name: set_queue
INSERT INTO {schema}.queue (name, concurrency, per_key, rate, rate_period)
VALUES ($1, $2, $3, $4, make_interval(secs => $5::float8))
ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, per_key = excluded.per_key, rate = excluded.rate,
                                 rate_period = excluded.rate_period

-- name: pause_queue
INSERT INTO {schema}.queue (name, paused) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET paused = excluded.paused

-- name: queues
-- The queues that have a row, or one of them, with what runs there now.
SELECT q.name, q.paused, q.concurrency, q.per_key, q.rate, extract(epoch FROM q.rate_period)::float8 AS rate_period,
       (SELECT count(*) FROM {schema}.run r WHERE r.queue = q.name AND r.limited AND r.worker_id IS NOT NULL
        /*visible r*/) AS running
FROM {schema}.queue q WHERE $1::text IS NULL OR q.name = $1 ORDER BY q.name

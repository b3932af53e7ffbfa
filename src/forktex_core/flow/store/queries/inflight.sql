-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: runs_in_flight
-- The next runs that have begun and not ended, after an id. Only columns that every schema has: it may be older than we.
SELECT id, workflow FROM {schema}.run
WHERE finished_at IS NULL AND started_at IS NOT NULL AND id > $1 AND ($2::text[] IS NULL OR workflow = ANY ($2::text[]))
ORDER BY id LIMIT $3

-- name: count_in_flight
SELECT count(*) FROM {schema}.run
WHERE finished_at IS NULL AND started_at IS NOT NULL AND ($1::text[] IS NULL OR workflow = ANY ($1::text[]))

-- name: run_with_output
-- A run as it is stored with its journal.
SELECT id, workflow, version, status, started_at, generation, origin::text AS origin, input::text AS input,
       output::text AS output
FROM {schema}.run WHERE id = $1

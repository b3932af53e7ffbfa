-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: put_rule
INSERT INTO {schema}.retention (name, older_than, statuses, workflow, export) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET older_than = excluded.older_than, statuses = excluded.statuses,
                                 workflow = excluded.workflow, export = excluded.export

-- name: rules
SELECT name, older_than, statuses, workflow, export FROM {schema}.retention ORDER BY name

-- name: delete_rule
DELETE FROM {schema}.retention WHERE name = $1 RETURNING name

-- name: outlived_runs
SELECT {schema}.outlived_runs($1, $2, $3) AS runs

-- name: exported_runs
-- All that a callback is handed of finished runs before they go.
SELECT id, workflow, version, queue, status, input::text AS input, output::text AS output, error::text AS error,
       metadata::text AS metadata, idempotency_key, key, parent_id, created_at, started_at, finished_at
FROM {schema}.run WHERE id = ANY ($1::uuid[]) AND finished_at IS NOT NULL ORDER BY id

-- name: exported_entries
SELECT run_id, key, seq, kind, name, failed, value::text AS value, attempt, started_at, at FROM {schema}.journal
WHERE run_id = ANY ($1::uuid[]) ORDER BY run_id, seq

-- name: prune_runs
SELECT {schema}.prune_runs($1, $2, $3) AS pruned

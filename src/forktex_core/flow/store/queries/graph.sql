-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: save_graph
SELECT * FROM {schema}.save_graph($1, $2, $3, $4)

-- name: graph_head
SELECT latest, active FROM {schema}.graph WHERE namespace = $1 AND name = $2 AND latest > 0

-- name: graph_document
SELECT document::text AS document FROM {schema}.graph_version WHERE namespace = $1 AND name = $2 AND version = $3

-- name: activate_graph
-- Makes a version (NULL: none) the one for new runs, if the active one is what the caller expects or nothing is expected.
UPDATE {schema}.graph g SET active = $3, changed_at = clock_timestamp()
WHERE g.namespace = $1 AND g.name = $2 AND g.latest > 0 AND (NOT $4::boolean OR g.active IS NOT DISTINCT FROM $5::integer)
  AND ($3::integer IS NULL OR EXISTS (SELECT 1 FROM {schema}.graph_version v
                                      WHERE v.namespace = $1 AND v.name = $2 AND v.version = $3))
RETURNING g.active

-- name: list_graphs
-- A page of a namespace's graphs, by name; documents are not read.
SELECT name, latest, active, changed_at FROM {schema}.graph
WHERE namespace = $1 AND name > $2 AND latest > 0 ORDER BY name LIMIT $3

-- name: runs_of_version
-- Unfinished runs of a version and, for those that rest in a state, their position: it is exact if the entry that
-- published it is the run's last one.
SELECT r.id, r.status, r.claim, r.metadata::text AS metadata, j.seq, j.kind, j.name, p.value::text AS position
FROM {schema}.run r
LEFT JOIN LATERAL (SELECT j.seq, j.kind, j.name FROM {schema}.journal j WHERE j.run_id = r.id ORDER BY j.seq DESC LIMIT 1) j
    ON true
LEFT JOIN {schema}.published p ON p.run_id = r.id AND p.key = '$graph'
WHERE r.workflow = $1 AND r.version = $2 AND r.finished_at IS NULL AND r.id > $3 /*visible r*/
ORDER BY r.id LIMIT 200

-- name: move_run
SELECT * FROM {schema}.move_run($1, $2, $3, $4, $5, $6)

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: send_signal
SELECT * FROM {schema}.send_signal(CAST($1 AS uuid), CAST($2 AS text), CAST($3 AS text), CAST($4 AS text))

-- name: open_signals
-- What runs that a worker holds have in their inboxes beyond what it has seen.
SELECT s.run_id, s.no, s.name, s.payload::text AS payload, s.sent_at FROM {schema}.signal s
JOIN unnest($1::uuid[], $2::bigint[]) AS a(id, seen) ON s.run_id = a.id AND s.no > a.seen
WHERE NOT s.taken ORDER BY s.run_id, s.no

-- name: put_signals
SELECT * FROM {schema}.put_signals($1, $2, $3)

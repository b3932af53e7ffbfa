-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: roles
-- `owns`: it is the role that is connected, or one that role's rights come with.
SELECT rolname::text AS name, rolsuper OR rolbypassrls AS bypasses, pg_has_role(oid, current_user::regrole::oid, 'MEMBER') AS owns
FROM pg_roles WHERE rolname = ANY ($1::text[])

-- name: type_of_org
SELECT type FROM {schema}.extension_column WHERE name = 'org_id'

-- name: tables
-- All tables of the schema, with the kind of their policy: those that nobody thought of, and have no run_id, get none, and
-- are empty for the role.
SELECT c.relname::text AS name, CASE
           WHEN c.relname IN ('run', 'schedule') THEN 'own_rows'
           WHEN c.relname IN ('graph', 'graph_version') THEN 'own_namespace'
           WHEN c.relname IN ('definition', 'worker', 'leader', 'queue') THEN 'shared_rows'
           WHEN c.relname IN ('migration', 'extension_column') THEN 'bookkeeping'
           WHEN EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'run_id') THEN 'rows_of_runs'
       END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY c.relname

-- name: policies
SELECT policyname::text AS name FROM pg_policies WHERE schemaname = $1 AND tablename = $2

-- name: enable
ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY

-- name: force
ALTER TABLE {schema}.{table} FORCE ROW LEVEL SECURITY

-- name: unforce
ALTER TABLE {schema}.{table} NO FORCE ROW LEVEL SECURITY

-- name: drop_policy
DROP POLICY {policy} ON {schema}.{table}

-- name: own_rows
CREATE POLICY tenant ON {schema}.{table} TO {role} USING (org_id = nullif(current_setting({setting}, true), '')::{type})

-- name: own_namespace
CREATE POLICY tenant ON {schema}.{table} TO {role} USING (namespace = nullif(current_setting({setting}, true), ''))

-- name: rows_of_runs
-- The run is looked up with the rights of the role, so its own policy decides.
CREATE POLICY tenant ON {schema}.{table} TO {role} USING (EXISTS (SELECT 1 FROM {schema}.run r WHERE r.id = run_id))

-- name: shared_rows
-- What workers serve is nobody's secret among tenants; but somebody has to ask.
CREATE POLICY tenant ON {schema}.{table} TO {role} USING (nullif(current_setting({setting}, true), '') IS NOT NULL)

-- name: bookkeeping
-- Read when a Flow is opened, before anybody asks for anything.
CREATE POLICY tenant ON {schema}.{table} FOR SELECT TO {role} USING (true)

-- name: grants
-- The rights that a principal's calls need, and no more.
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.run, {schema}.definition, {schema}.graph TO {role};
GRANT SELECT, INSERT, DELETE ON {schema}.journal TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.signal, {schema}.schedule TO {role};
GRANT SELECT, INSERT ON {schema}.graph_version TO {role};
GRANT SELECT ON {schema}.published, {schema}.migration, {schema}.extension_column TO {role};
GRANT SELECT, UPDATE (revoked) ON {schema}.worker TO {role};
GRANT SELECT ON {schema}.leader TO {role};
GRANT SELECT (name, paused, concurrency, per_key, rate, rate_period, starts), INSERT ON {schema}.queue TO {role}

-- name: worker_grants
GRANT USAGE ON SCHEMA {schema} TO {worker};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {worker}

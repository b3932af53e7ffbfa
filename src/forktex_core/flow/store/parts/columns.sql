-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- name: add_column
ALTER TABLE {schema}.{table} ADD COLUMN IF NOT EXISTS {column} {type}

-- name: default_literal
SELECT quote_literal(($1::{type})::text)

-- name: note_column
INSERT INTO {schema}.extension_column (name, type, isolates) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET isolates = excluded.isolates

-- name: known_columns
SELECT name, type, isolates FROM {schema}.extension_column ORDER BY name

-- name: has_trigger
SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2)

-- name: index_valid
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)

-- name: build_index
CREATE INDEX CONCURRENTLY {index} ON {schema}.{table} ({column}, {then})

-- name: drop_index
DROP INDEX CONCURRENTLY {schema}.{index}

-- name: inherit_columns
-- Hands columns on to a run that nobody started from outside: from the run that started it, that it is a fork of, or from
-- its schedule.
CREATE OR REPLACE FUNCTION {schema}.inherit_columns() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.parent_id IS NOT NULL OR NEW.started_by IS NOT NULL THEN
        SELECT {old} INTO {new} FROM {schema}.run x WHERE x.id = coalesce(NEW.parent_id, NEW.started_by);
    ELSE
        SELECT {old} INTO {new} FROM {schema}.schedule x WHERE x.name = NEW.schedule;
    END IF;
    RETURN NEW;
END $$

-- name: run_inherits
CREATE TRIGGER run_inherits BEFORE INSERT ON {schema}.run FOR EACH ROW
WHEN (NEW.parent_id IS NOT NULL OR NEW.started_by IS NOT NULL OR NEW.schedule IS NOT NULL)
EXECUTE FUNCTION {schema}.inherit_columns()

-- name: reaches
-- Whether the body of a run may signal another one: not if they differ in a column that isolates.
CREATE OR REPLACE FUNCTION {schema}.reaches(p_from uuid, p_to uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (SELECT 1 FROM {schema}.run a, {schema}.run b WHERE a.id = p_from AND b.id = p_to AND ({differ}))
$$

-- name: note_changes
-- Notes changes of status in a setting of the transaction, when the transaction asked for it: a JSON array a line.
CREATE OR REPLACE FUNCTION {schema}.note_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_noted text;
BEGIN
    IF current_setting('forktex_flow.watched', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        SELECT jsonb_agg(jsonb_build_object('id', n.id, 'workflow', n.workflow, 'version', n.version, 'queue', n.queue,
                         'old', NULL, 'new', n.status, 'at', clock_timestamp(), 'columns', jsonb_build_object({pairs}))
                         ORDER BY n.id)::text INTO v_noted
        FROM added n;
    ELSE
        SELECT jsonb_agg(jsonb_build_object('id', n.id, 'workflow', n.workflow, 'version', n.version, 'queue', n.queue,
                         'old', o.status, 'new', n.status, 'at', clock_timestamp(), 'columns', jsonb_build_object({pairs}))
                         ORDER BY n.id)::text INTO v_noted
        FROM changed n JOIN former o ON o.id = n.id WHERE o.status <> n.status;
    END IF;
    IF v_noted IS NOT NULL THEN
        PERFORM set_config('forktex_flow.changes', current_setting('forktex_flow.changes', true) || v_noted || E'\n', true);
    END IF;
    RETURN NULL;
END $$

-- name: run_noted_insert
CREATE TRIGGER run_noted_insert AFTER INSERT ON {schema}.run REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_changes()

-- name: run_noted_update
CREATE TRIGGER run_noted_update AFTER UPDATE ON {schema}.run REFERENCING OLD TABLE AS former NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_changes()

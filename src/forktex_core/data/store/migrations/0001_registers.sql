-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- One row per register that a tenant has defined. The version rises with each change of the definition; every statement
-- on rows reads it, so that no process answers by a definition that is no longer true.
CREATE TABLE {schema}.register (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text NOT NULL,
    name        text NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    definition  jsonb NOT NULL,
    own_table   text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at  timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX register_name ON {schema}.register (tenant, name) WHERE dropped_at IS NULL;

CREATE TABLE {schema}.register_version (
    register_id bigint NOT NULL REFERENCES {schema}.register ON DELETE CASCADE,
    version     integer NOT NULL,
    definition  jsonb NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by  text,
    PRIMARY KEY (register_id, version)
);

-- The last number that an auto-number field has given.
CREATE TABLE {schema}.counter (
    register_id bigint NOT NULL REFERENCES {schema}.register ON DELETE CASCADE,
    field       integer NOT NULL,
    last        bigint NOT NULL,
    PRIMARY KEY (register_id, field)
) WITH (fillfactor = 50);

-- The fence of writers: holds off a change of the register (which takes the lock exclusively, for milliseconds) until the
-- writer's transaction ends, and answers false when the writer's definition is not the register's. The version is read
-- under the lock, in a snapshot taken after it; a transaction that keeps one snapshot locks the row instead.
CREATE FUNCTION {schema}.fence(register bigint, of_tenant text, known integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE found integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('{schema_name}', register));
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT r.version INTO found FROM {schema}.register r
        WHERE r.id = register AND r.tenant = of_tenant AND r.dropped_at IS NULL;
    ELSE
        SELECT r.version INTO found FROM {schema}.register r
        WHERE r.id = register AND r.tenant = of_tenant AND r.dropped_at IS NULL FOR SHARE;
    END IF;
    RETURN coalesce(found = known, false);
END $$;

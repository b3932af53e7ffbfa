-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The rows of all registers that have no table of their own. The payload is the truth, keyed by field number; a slot
-- holds the key of whichever field of the register uses it, kept by the writer. All slots are indexed beforehand, so
-- a new field needs no DDL; an unused slot is null and in no index.
CREATE TABLE {schema}.row (
    register_id   bigint NOT NULL,
    id            uuid NOT NULL,
    revision      integer NOT NULL DEFAULT 1,
    payload       jsonb NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    created_by    text,
    updated_by    text,
    archived_at   timestamptz,
    archived_with uuid,
    t1 text COLLATE "C", t2 text COLLATE "C", t3 text COLLATE "C",
    t4 text COLLATE "C", t5 text COLLATE "C", t6 text COLLATE "C",
    n1 numeric, n2 numeric, n3 numeric, n4 numeric,
    m1 timestamptz, m2 timestamptz, m3 timestamptz, m4 timestamptz,
    u1 uuid, u2 uuid, u3 uuid,
    search        text,
    PRIMARY KEY (register_id, id)
) PARTITION BY HASH (register_id);

DO $$
DECLARE slot text;
BEGIN
    FOR leaf IN 0..15 LOOP
        EXECUTE format('CREATE TABLE {schema}.row_%s PARTITION OF {schema}.row
            FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 90,
            autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02,
            autovacuum_vacuum_insert_scale_factor = 0.02)', leaf, leaf);
        FOREACH slot IN ARRAY '{t1,t2,t3,t4,t5,t6,n1,n2,n3,n4,m1,m2,m3,m4,u1,u2,u3}'::text[] LOOP
            EXECUTE format('CREATE STATISTICS {schema}.row_%s_%s (mcv) ON register_id, %s FROM {schema}.row_%s',
                leaf, slot, slot, leaf);
        END LOOP;
    END LOOP;
    FOREACH slot IN ARRAY '{t1,t2,t3,t4,t5,t6,n1,n2,n3,n4,m1,m2,m3,m4,u1,u2,u3}'::text[] LOOP
        EXECUTE format('CREATE INDEX row_%s ON {schema}.row (register_id, %s, id)
            WHERE archived_at IS NULL AND %s IS NOT NULL', slot, slot, slot);
    END LOOP;
END $$;
CREATE INDEX row_created ON {schema}.row (register_id, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX row_archived ON {schema}.row (register_id, archived_at, id) WHERE archived_at IS NOT NULL;

-- The values of unique fields and groups, held by living rows only. A trashed row has given its values back.
CREATE TABLE {schema}.unique_value (
    register_id bigint NOT NULL,
    fields      text NOT NULL,   -- the field's number, or those of a group: '3' or '3,7'
    value       text NOT NULL,   -- the stored values as JSON, or their digest when long
    row_id      uuid NOT NULL,
    PRIMARY KEY (register_id, fields, value)
);
CREATE INDEX unique_value_row ON {schema}.unique_value (register_id, row_id);

-- The links of fields that refer to many rows.
CREATE TABLE {schema}.link (
    register_id bigint NOT NULL,
    field       integer NOT NULL,
    from_id     uuid NOT NULL,
    to_id       uuid NOT NULL,
    PRIMARY KEY (register_id, field, from_id, to_id)
);
CREATE INDEX link_back ON {schema}.link (register_id, field, to_id);

-- What a change took away: a row's revision before it, and the values that the changed fields had. So a row as of a time
-- is the row of now with these undone, newest first, and a row that never changed has no history to pay for.
CREATE TABLE {schema}.history (
    register_id bigint NOT NULL,
    row_id      uuid NOT NULL,
    revision    integer NOT NULL,   -- the revision that the change made
    change_set  uuid NOT NULL,
    action      text NOT NULL CHECK (action IN ('update', 'archive', 'restore', 'delete')),
    at          timestamptz NOT NULL,
    by          text,
    before      jsonb NOT NULL,
    PRIMARY KEY (register_id, row_id, revision)
);
CREATE INDEX history_change_set ON {schema}.history (register_id, change_set);
CREATE INDEX history_at ON {schema}.history (register_id, at);

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- Graphs that are data. A version never changes once it is saved; the head says which one new runs get.
CREATE TABLE {schema}.graph (
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    latest    integer NOT NULL,
    active    integer,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, name)
);
CREATE TABLE {schema}.graph_version (
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    version   integer NOT NULL,
    document  json NOT NULL,
    saved_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, name, version),
    FOREIGN KEY (namespace, name) REFERENCES {schema}.graph
);

CREATE FUNCTION {schema}.refuse_new_document() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'version % of graph % in % never changes', OLD.version, OLD.name, OLD.namespace
        USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER graph_version_immutable BEFORE UPDATE ON {schema}.graph_version FOR EACH ROW
EXECUTE FUNCTION {schema}.refuse_new_document();

-- Saves the next version. The head's row lock decides among those who save at once: whoever expected another latest
-- version than there is (0: none at all) saves nothing.
CREATE FUNCTION {schema}.save_graph(p_namespace text, p_name text, p_document text, p_expected integer,
                                    OUT outcome text, OUT version integer)
LANGUAGE plpgsql AS $$
DECLARE
    v_latest integer;
BEGIN
    INSERT INTO {schema}.graph (namespace, name, latest) VALUES (p_namespace, p_name, 0) ON CONFLICT DO NOTHING;
    SELECT g.latest INTO v_latest FROM {schema}.graph g WHERE g.namespace = p_namespace AND g.name = p_name FOR UPDATE;
    IF p_expected IS NOT NULL AND v_latest <> p_expected THEN
        outcome := 'lost';
        version := v_latest;
        RETURN;
    END IF;
    version := v_latest + 1;
    UPDATE {schema}.graph g SET latest = save_graph.version, changed_at = clock_timestamp()
    WHERE g.namespace = p_namespace AND g.name = p_name;
    INSERT INTO {schema}.graph_version (namespace, name, version, document)
    VALUES (p_namespace, p_name, save_graph.version, p_document::json);
    outcome := 'saved';
END $$;

-- Moves a run to another version of its graph, if it rests where the caller saw it: the entry that published its position
-- is still the last one. It goes on there as a new generation.
CREATE FUNCTION {schema}.move_run(p_run uuid, p_claim integer, p_seq integer, p_version integer, p_lane text, p_input text,
                                  OUT outcome text, OUT queue text)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT r.queue INTO queue FROM {schema}.run r
    WHERE r.id = p_run AND r.status = 'waiting' AND r.claim = p_claim FOR NO KEY UPDATE;
    IF NOT FOUND OR p_seq IS DISTINCT FROM (SELECT max(j.seq) FROM {schema}.journal j WHERE j.run_id = p_run) THEN
        outcome := 'moved';
        RETURN;
    END IF;
    DELETE FROM {schema}.journal j WHERE j.run_id = p_run;
    UPDATE {schema}.run r SET status = 'pending', due_at = clock_timestamp(), version = p_version, lane = p_lane,
           input = p_input::json, generation = r.generation + 1, claim = r.claim + 1, waiting_for = NULL, started_at = NULL
    WHERE r.id = p_run;
    outcome := 'done';
END $$;

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- next_at is the next time of the plan that is neither fired nor skipped: database time decides when it has come, and the
-- leader reckons what follows it. `revision` grows with every change, so that a leader that read an older plan fires nothing.
CREATE TABLE {schema}.schedule (
    name       text PRIMARY KEY,
    workflow   text NOT NULL,
    version    integer,
    plan       jsonb NOT NULL,
    overlap    text NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow', 'cancel_running')),
    catch_up   interval NOT NULL,
    jitter     interval NOT NULL,
    input      json,
    queue      text NOT NULL,
    priority   smallint NOT NULL,
    key        text,
    timeout    interval,
    metadata   jsonb NOT NULL,
    paused     boolean NOT NULL DEFAULT false,
    next_at    timestamptz,
    last_at    timestamptz,
    last_run   uuid,
    skipped    bigint NOT NULL DEFAULT 0,
    revision   bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schedule_due ON {schema}.schedule (next_at) WHERE next_at IS NOT NULL AND NOT paused;
CREATE INDEX run_schedule ON {schema}.run (schedule, id) WHERE schedule IS NOT NULL AND finished_at IS NULL;

-- Starts a run of a schedule. The id is derived from the schedule and the time, so a time fires once whoever repeats it.
-- Says what became of it: started, queued, skipped, or duplicate.
CREATE FUNCTION {schema}.start_scheduled(p_schedule text, p_run uuid, p_due timestamptz, p_version integer, p_lane text,
                                         p_overlap text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    s {schema}.schedule;
    v_active uuid[];
    v_late boolean;
    v_why text;
BEGIN
    SELECT * INTO s FROM {schema}.schedule x WHERE x.name = p_schedule FOR NO KEY UPDATE;
    v_active := ARRAY(SELECT r.id FROM {schema}.run r WHERE r.schedule = p_schedule AND r.finished_at IS NULL AND r.id <> p_run);
    IF p_overlap = 'skip' AND cardinality(v_active) > 0 THEN
        RETURN 'skipped';
    END IF;
    v_late := p_overlap = 'queue' AND cardinality(v_active) > 0;
    INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, waiting_for, input, metadata, key,
                              schedule, timeout, deadline_at)
    SELECT p_run, s.workflow, p_version, p_lane, s.queue, s.priority,
           CASE WHEN v_late OR s.key IS NOT NULL AND p_due > clock_timestamp() THEN 'waiting' ELSE 'pending' END,
           CASE WHEN NOT v_late THEN greatest(p_due, clock_timestamp()) END,
           CASE WHEN v_late THEN 'the run of ' || p_schedule || ' before it' END,
           s.input, s.metadata, s.key, p_schedule, s.timeout, greatest(p_due, clock_timestamp()) + s.timeout
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'duplicate';
    END IF;
    IF p_overlap = 'cancel_running' AND cardinality(v_active) > 0 THEN
        v_why := 'the run was cancelled: schedule ' || p_schedule || ' fired again';
        PERFORM {schema}.put_signals(v_active, array_fill('$cancel'::text, ARRAY[cardinality(v_active)]),
            array_fill(json_build_object('kind', 'cancel', 'reason', v_why, 'error',
                json_build_object('type', 'forktex_core.flow.errors.RunCancelled', 'message', v_why))::text,
                ARRAY[cardinality(v_active)]));
    END IF;
    RETURN CASE WHEN v_late THEN 'queued' ELSE 'started' END;
END $$;

-- What a leader fires, fenced by its term and by the schedule's revision, with what it reckoned to come next: one
-- transaction, so no crash leaves half of it.
CREATE FUNCTION {schema}.fire_schedule(p_worker bigint, p_term bigint, p_schedule text, p_revision bigint, p_runs uuid[],
                                       p_at timestamptz[], p_due timestamptz[], p_version integer, p_lane text,
                                       p_next timestamptz, p_skipped integer)
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    s {schema}.schedule;
    v_outcomes text[] := '{}';
    v_outcome text;
BEGIN
    PERFORM 1 FROM {schema}.leader l WHERE l.term = p_term AND l.worker_id = p_worker FOR SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO s FROM {schema}.schedule x WHERE x.name = p_schedule AND x.revision = p_revision AND NOT x.paused
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR i IN 1..cardinality(p_runs) LOOP
        v_outcome := {schema}.start_scheduled(p_schedule, p_runs[i], p_due[i], p_version, p_lane, s.overlap);
        v_outcomes := v_outcomes || v_outcome;
    END LOOP;
    UPDATE {schema}.schedule x SET next_at = p_next, revision = x.revision + 1,
           last_at = coalesce(p_at[cardinality(p_at)], x.last_at), last_run = coalesce(p_runs[cardinality(p_runs)], x.last_run),
           skipped = x.skipped + p_skipped + (SELECT count(*) FROM unnest(v_outcomes) o WHERE o = 'skipped')
    WHERE x.name = p_schedule;
    RETURN v_outcomes;
END $$;

-- The runs that waited for the one before them, which has ended.
CREATE FUNCTION {schema}.scheduled_runs_in_turn() RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(SELECT f.id FROM {schema}.schedule s CROSS JOIN LATERAL (
            SELECT r.id, r.status, r.due_at, r.started_at FROM {schema}.run r
            WHERE r.schedule = s.name AND r.finished_at IS NULL ORDER BY r.id LIMIT 1) f
        WHERE s.overlap = 'queue' AND f.status = 'waiting' AND f.due_at IS NULL AND f.started_at IS NULL);
END $$;

-- Lets them go.
CREATE FUNCTION {schema}.release_scheduled_runs() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_turn uuid[] := {schema}.scheduled_runs_in_turn();
    v_queues text[];
BEGIN
    WITH freed AS (
        UPDATE {schema}.run r SET status = 'pending', due_at = clock_timestamp(), waiting_for = NULL
        WHERE r.id = ANY (v_turn) AND r.status = 'waiting' AND r.due_at IS NULL AND r.started_at IS NULL
        RETURNING r.queue
    ) SELECT array_agg(DISTINCT f.queue) INTO v_queues FROM freed f;
    RETURN coalesce(v_queues, '{}');
END $$;

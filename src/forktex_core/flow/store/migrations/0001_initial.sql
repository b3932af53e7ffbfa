-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- One row per life of a worker process. The row is the fence: a write of the worker locks it FOR KEY SHARE and reads
-- ended_at under that lock; whoever hands its runs on locks it FOR UPDATE and sets ended_at.
CREATE TABLE {schema}.worker (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    pid          integer NOT NULL,
    queues       text[] NOT NULL,
    lanes        text[] NOT NULL,
    slots        integer NOT NULL,
    session_lock boolean NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked      uuid[] NOT NULL DEFAULT '{}',
    ended_at     timestamptz,
    end_reason   text,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX worker_living ON {schema}.worker (id) WHERE ended_at IS NULL;

-- Exactly one row: the authority on who leads. The advisory lock is only the fast way to learn that a leader is gone.
CREATE TABLE {schema}.leader (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    term       bigint NOT NULL DEFAULT 0,
    worker_id  bigint,
    elected_at timestamptz,
    seen_at    timestamptz
) WITH (fillfactor = 50);
INSERT INTO {schema}.leader DEFAULT VALUES;

CREATE TABLE {schema}.definition (
    workflow      text NOT NULL,
    version       integer NOT NULL,
    lane          text NOT NULL,
    kind          text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workflow, version)
);

CREATE TABLE {schema}.run (
    id              uuid PRIMARY KEY,
    workflow        text NOT NULL,
    version         integer NOT NULL,
    lane            text NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL,
    status          text NOT NULL CHECK (status IN
                    ('pending', 'running', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled')),
    due_at          timestamptz,
    worker_id       bigint,
    claim           integer NOT NULL DEFAULT 0,
    signal_seq      bigint NOT NULL DEFAULT 0,
    input           json,
    output          json,
    error           json,
    waiting_for     text,
    metadata        jsonb NOT NULL DEFAULT '{}',
    idempotency_key text,
    parent_id       uuid,
    parent_key      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    claimed_at      timestamptz,
    deadline_at     timestamptz,
    finished_at     timestamptz,
    CONSTRAINT run_claimed_when_running CHECK ((status = 'running') = (worker_id IS NOT NULL)),
    CONSTRAINT run_due_when_claimable CHECK (due_at IS NULL OR status IN ('pending', 'waiting')),
    CONSTRAINT run_pending_is_due CHECK (status <> 'pending' OR due_at IS NOT NULL),
    CONSTRAINT run_finished_once CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT run_child_has_key CHECK ((parent_id IS NULL) = (parent_key IS NULL))
) WITH (fillfactor = 80);
-- What can be claimed, now or later: ordered as workers ask for it.
CREATE INDEX run_due ON {schema}.run (queue, lane, priority DESC, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX run_claimed ON {schema}.run (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX run_deadline ON {schema}.run (deadline_at) WHERE deadline_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX run_parent ON {schema}.run (parent_id) WHERE parent_id IS NOT NULL;
CREATE UNIQUE INDEX run_idempotency ON {schema}.run (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- The second wall behind transitions.py: the same table of legal changes, which no UPDATE gets past.
CREATE FUNCTION {schema}.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'run % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER run_transition BEFORE UPDATE OF status ON {schema}.run FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NOT (
       (OLD.status = 'pending' AND NEW.status IN ('running', 'paused', 'failed', 'cancelled'))
    OR (OLD.status = 'running' AND NEW.status IN ('pending', 'waiting', 'paused', 'succeeded', 'failed', 'cancelled'))
    OR (OLD.status = 'waiting' AND NEW.status IN ('pending', 'running', 'paused', 'failed', 'cancelled'))
    OR (OLD.status = 'paused' AND NEW.status IN ('pending', 'failed', 'cancelled'))
    OR (OLD.status IN ('failed', 'cancelled') AND NEW.status = 'pending')))
EXECUTE FUNCTION {schema}.refuse_transition();

-- The append-only journal. `value` is json, not jsonb: what replay returns must be the very text that was recorded
-- (jsonb reorders keys). `seq` is the order in which a run's entries were made, which replay delivers them in.
CREATE TABLE {schema}.journal (
    run_id     uuid NOT NULL,
    key        text COLLATE "C" NOT NULL,
    seq        integer NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    failed     boolean NOT NULL,
    value      json,
    claim      integer NOT NULL,
    attempt    smallint NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE TABLE {schema}.signal (
    run_id  uuid NOT NULL,
    no      bigint NOT NULL,
    name    text NOT NULL,
    payload json,
    key     text,
    taken   boolean NOT NULL DEFAULT false,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, no)
);
CREATE UNIQUE INDEX signal_key ON {schema}.signal (run_id, key) WHERE key IS NOT NULL;

-- Claims up to p_slots due runs for a living worker and returns them (part 'r'), then, in a fresh snapshot, the journals
-- of those that the worker doesn't hold warm (part 'j') and the signals not yet taken (part 's').
--
-- The candidates of every (queue, lane, priority) come from one index probe each, so a backlog that nobody serves, or a
-- hundred thousand timers of another priority, cost nothing. They are chosen without locks and then locked in id order,
-- skipping what another worker has: only rows that are really taken are ever locked.
CREATE FUNCTION {schema}.claim_runs(p_worker bigint, p_queues text[], p_lanes text[], p_slots integer,
                                    p_warm uuid[], p_warm_claims integer[])
RETURNS TABLE (part text, run_id uuid, no bigint, key text, kind text, name text, failed boolean, value text,
               claim integer, attempt integer, at timestamptz, workflow text, version integer, queue text,
               parent_id uuid, parent_key text, metadata text)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_taken uuid[] := '{}';
    v_tried uuid[] := '{}';
    v_picked uuid[];
    v_got uuid[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR round IN 1..4 LOOP
        v_picked := ARRAY(
            WITH RECURSIVE bands AS (
                SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                              WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL) AS p
                FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
                UNION ALL
                SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r
                                  WHERE r.queue = b.q AND r.lane = b.l AND r.due_at IS NOT NULL AND r.priority < b.p)
                FROM bands b WHERE b.p IS NOT NULL
            )
            SELECT c.id FROM bands b CROSS JOIN LATERAL (
                SELECT r.id, r.due_at FROM {schema}.run r
                WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p
                  AND r.due_at <= clock_timestamp() AND r.id <> ALL (v_tried)
                ORDER BY r.due_at LIMIT p_slots - cardinality(v_taken)) c
            WHERE b.p IS NOT NULL ORDER BY b.p DESC, c.due_at LIMIT p_slots - cardinality(v_taken));
        EXIT WHEN cardinality(v_picked) = 0;
        WITH locked AS MATERIALIZED (
            SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_picked) AND r.due_at <= clock_timestamp()
            ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
        ), changed AS (
            UPDATE {schema}.run r SET status = 'running', worker_id = p_worker, claim = r.claim + 1, due_at = NULL,
                   waiting_for = NULL, claimed_at = clock_timestamp(),
                   started_at = coalesce(r.started_at, clock_timestamp())
            FROM locked l WHERE r.id = l.id RETURNING r.id
        ) SELECT coalesce(array_agg(c.id), '{}') INTO v_got FROM changed c;
        v_taken := v_taken || v_got;
        v_tried := v_tried || v_picked;
        EXIT WHEN cardinality(v_taken) >= p_slots;
    END LOOP;
    IF cardinality(v_taken) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT 'r', r.id, r.signal_seq, NULL, NULL, NULL, NULL::boolean, r.input::text, r.claim, NULL::integer,
                        r.started_at, r.workflow, r.version, r.queue, r.parent_id, r.parent_key, r.metadata::text
                 FROM {schema}.run r WHERE r.id = ANY (v_taken);
    -- A warm run is up to date exactly when nobody claimed it in between.
    RETURN QUERY SELECT 'j', j.run_id, j.seq::bigint, j.key, j.kind, j.name, j.failed, j.value::text, j.claim,
                        j.attempt::integer, j.at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                 FROM {schema}.journal j WHERE j.run_id = ANY (ARRAY(
                     SELECT r.id FROM {schema}.run r WHERE r.id = ANY (v_taken) AND NOT EXISTS (
                         SELECT 1 FROM unnest(p_warm, p_warm_claims) AS w(id, claim)
                         WHERE w.id = r.id AND w.claim = r.claim - 1)))
                 ORDER BY j.run_id, j.seq;
    RETURN QUERY SELECT 's', s.run_id, s.no, s.key, NULL, s.name, NULL::boolean, s.payload::text, NULL::integer,
                        NULL::integer, s.sent_at, NULL, NULL::integer, NULL, NULL::uuid, NULL, NULL
                 FROM {schema}.signal s WHERE s.run_id = ANY (v_taken) AND NOT s.taken ORDER BY s.run_id, s.no;
END $$;

-- The one place that puts a signal into a run's inbox: numbered under the run's row lock, so numbers follow commits.
-- Returns what became of it and the worker to tell, if one holds the run now.
CREATE FUNCTION {schema}.send_signal(p_run uuid, p_name text, p_payload text, p_key text,
                                     OUT outcome text, OUT status text, OUT worker_id bigint, OUT queue text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    SELECT x.status, x.worker_id, x.queue, x.signal_seq INTO r FROM {schema}.run x WHERE x.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    status := r.status;
    worker_id := r.worker_id;
    queue := r.queue;
    IF r.status IN ('succeeded', 'failed', 'cancelled') THEN
        outcome := 'finished';
    ELSIF p_key IS NOT NULL AND EXISTS (SELECT 1 FROM {schema}.signal s WHERE s.run_id = p_run AND s.key = p_key) THEN
        outcome := 'duplicate';
    ELSE
        INSERT INTO {schema}.signal (run_id, no, name, payload, key)
        VALUES (p_run, r.signal_seq + 1, p_name, p_payload::json, p_key);
        UPDATE {schema}.run x SET signal_seq = x.signal_seq + 1,
               due_at = CASE WHEN x.status = 'waiting' THEN least(x.due_at, clock_timestamp()) ELSE x.due_at END
        WHERE x.id = p_run;
        outcome := 'sent';
    END IF;
END $$;

-- Gives claimed runs back to wait. A run stays claimed when its inbox moved since the worker looked ('stale'), and is
-- reported 'lost' when it is not this worker's any more.
CREATE FUNCTION {schema}.park_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_seen bigint[],
                                   p_due timestamptz[], p_waiting_for text[])
RETURNS TABLE (run_id uuid, outcome text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_runs, p_claims, p_seen, p_due, p_waiting_for) AS a(id, claim, seen, due, waiting_for)
    ), held AS MATERIALIZED (
        SELECT r.id, r.claim, r.signal_seq FROM {schema}.run r
        WHERE r.id = ANY (p_runs) AND r.worker_id = p_worker ORDER BY r.id FOR NO KEY UPDATE
    ), parked AS (
        UPDATE {schema}.run r SET status = 'waiting', worker_id = NULL, due_at = a.due, waiting_for = a.waiting_for
        FROM held h JOIN asked a ON a.id = h.id AND a.claim = h.claim AND a.seen = h.signal_seq
        WHERE r.id = h.id RETURNING r.id
    )
    SELECT a.id, CASE WHEN p.id IS NOT NULL THEN 'parked' WHEN h.id IS NOT NULL AND h.claim = a.claim THEN 'stale'
                      ELSE 'lost' END
    FROM asked a LEFT JOIN parked p ON p.id = a.id LEFT JOIN held h ON h.id = a.id;
END $$;

-- Ends claimed runs. A child's end is a signal to its parent, in the same transaction. Rows are locked in id order,
-- children and parents alike, so two batches never wait for each other in a circle.
CREATE FUNCTION {schema}.finish_runs(p_worker bigint, p_runs uuid[], p_claims integer[], p_statuses text[],
                                     p_outputs text[], p_errors text[])
RETURNS TABLE (run_id uuid, parent_id uuid, parent_worker bigint, parent_queue text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    parents uuid[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT r.parent_id) FILTER (WHERE r.parent_id IS NOT NULL) INTO parents
    FROM {schema}.run r WHERE r.id = ANY (p_runs);
    IF parents IS NULL THEN
        RETURN QUERY
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING r.id, NULL::uuid, NULL::bigint, NULL::text;
        RETURN;
    END IF;
    PERFORM 1 FROM {schema}.run r WHERE r.id = ANY (p_runs || parents) ORDER BY r.id FOR NO KEY UPDATE;
    RETURN QUERY
    WITH ended AS (
        UPDATE {schema}.run r SET status = a.status, worker_id = NULL, finished_at = CASE
                   WHEN a.status = 'paused' THEN NULL ELSE clock_timestamp() END,
               output = a.output::json, error = a.error::json
        FROM unnest(p_runs, p_claims, p_statuses, p_outputs, p_errors) AS a(id, claim, status, output, error)
        WHERE r.id = a.id AND r.worker_id = p_worker AND r.claim = a.claim
        RETURNING r.id, r.status, r.output, r.error, r.parent_id, r.parent_key
    ), told AS (
        INSERT INTO {schema}.signal (run_id, no, name, payload)
        SELECT p.id, p.signal_seq + row_number() OVER (PARTITION BY p.id ORDER BY e.id), '$child:' || e.parent_key,
               json_build_object('status', e.status, 'output', e.output, 'error', e.error)
        FROM ended e JOIN {schema}.run p ON p.id = e.parent_id
        WHERE p.finished_at IS NULL AND e.status <> 'paused' RETURNING run_id
    ), woken AS (
        UPDATE {schema}.run p SET signal_seq = p.signal_seq + t.n, due_at = CASE WHEN p.status = 'waiting'
                   THEN least(p.due_at, clock_timestamp()) ELSE p.due_at END
        FROM (SELECT t.run_id, count(*) AS n FROM told t GROUP BY t.run_id) t
        WHERE p.id = t.run_id RETURNING p.id, p.worker_id, p.queue
    )
    SELECT e.id, w.id, w.worker_id, w.queue FROM ended e LEFT JOIN woken w ON w.id = e.parent_id;
END $$;

-- What an idle worker asks once a second, in one statement: am I alive, do I lead, is anything due now or soon, and which
-- of my runs got signals that no notification told me of?
CREATE FUNCTION {schema}.tick(p_worker bigint, p_lock_class integer, p_queues text[], p_lanes text[],
                              p_runs uuid[], p_seen bigint[], p_lead boolean,
                              OUT alive boolean, OUT term bigint, OUT now timestamptz, OUT next_due timestamptz,
                              OUT stale uuid[])
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    UPDATE {schema}.worker w SET heartbeat_at = clock_timestamp() WHERE w.id = p_worker AND w.ended_at IS NULL;
    alive := FOUND;
    now := clock_timestamp();
    IF NOT alive THEN
        RETURN;
    END IF;
    IF p_lead THEN
        SELECT l.term INTO term FROM {schema}.leader l WHERE l.worker_id = p_worker;
        IF term IS NULL AND p_lock_class IS NOT NULL AND pg_try_advisory_lock(p_lock_class, 0) THEN
            UPDATE {schema}.leader l SET term = l.term + 1, worker_id = p_worker, elected_at = clock_timestamp(),
                   seen_at = clock_timestamp() RETURNING l.term INTO term;
        END IF;
    END IF;
    SELECT min(d.due_at) INTO next_due FROM (
        WITH RECURSIVE bands AS (
            SELECT q, l, (SELECT max(r.priority) FROM {schema}.run r
                          WHERE r.queue = q AND r.lane = l AND r.due_at IS NOT NULL) AS p
            FROM unnest(p_queues) q CROSS JOIN unnest(p_lanes) l
            UNION ALL
            SELECT b.q, b.l, (SELECT max(r.priority) FROM {schema}.run r
                              WHERE r.queue = b.q AND r.lane = b.l AND r.due_at IS NOT NULL AND r.priority < b.p)
            FROM bands b WHERE b.p IS NOT NULL
        )
        SELECT (SELECT r.due_at FROM {schema}.run r
                WHERE r.queue = b.q AND r.lane = b.l AND r.priority = b.p AND r.due_at IS NOT NULL
                ORDER BY r.due_at LIMIT 1) AS due_at FROM bands b WHERE b.p IS NOT NULL) d;
    SELECT array_agg(r.id) INTO stale FROM unnest(p_runs, p_seen) AS a(id, seen)
    JOIN {schema}.run r ON r.id = a.id AND r.worker_id = p_worker AND r.signal_seq > a.seen;
END $$;

-- The leader's chores, fenced by its term: hands on the runs of workers that are gone. Absence of the session lock counts
-- only when p_trust_locks (the leader has been in office long enough for the living to reconnect) and, for a worker that is
-- older than the server's last start, some seconds after that start. A heartbeat older than the lease counts always.
CREATE FUNCTION {schema}.do_chores(p_worker bigint, p_term bigint, p_lock_class integer, p_trust_locks boolean,
                                   p_lease interval, OUT in_office boolean, OUT ended bigint[], OUT queues text[])
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    gone bigint;
    touched text[];
BEGIN
    PERFORM 1 FROM {schema}.leader l WHERE l.term = p_term AND l.worker_id = p_worker FOR SHARE;
    in_office := FOUND;
    ended := '{}';
    queues := '{}';
    IF NOT in_office THEN
        RETURN;
    END IF;
    FOR gone IN
        SELECT w.id FROM {schema}.worker w WHERE w.ended_at IS NULL AND w.id <> p_worker AND (
            w.heartbeat_at < clock_timestamp() - p_lease
            OR (p_trust_locks AND w.session_lock
                AND (w.started_at > pg_postmaster_start_time()
                     OR clock_timestamp() > pg_postmaster_start_time() + interval '5 s')
                AND NOT EXISTS (
                SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 2
                  AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                  AND k.classid = p_lock_class::oid AND k.objid = (w.id % 2147483647)::oid)))
        ORDER BY w.id
    LOOP
        SELECT {schema}.end_worker(gone, 'gone') INTO touched;
        ended := ended || gone;
        queues := queues || touched;
    END LOOP;
END $$;

-- Ends a worker's life and makes its runs claimable. FOR UPDATE waits for its flushes in flight and shuts out later ones.
CREATE FUNCTION {schema}.end_worker(p_worker bigint, p_reason text) RETURNS text[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    touched text[];
BEGIN
    PERFORM 1 FROM {schema}.worker w WHERE w.id = p_worker AND w.ended_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    UPDATE {schema}.worker w SET ended_at = clock_timestamp(), end_reason = p_reason WHERE w.id = p_worker;
    WITH held AS MATERIALIZED (
        SELECT r.id FROM {schema}.run r WHERE r.worker_id = p_worker ORDER BY r.id FOR NO KEY UPDATE
    ), freed AS (
        UPDATE {schema}.run r SET status = 'pending', worker_id = NULL, due_at = clock_timestamp()
        FROM held h WHERE r.id = h.id RETURNING r.queue
    ) SELECT array_agg(DISTINCT f.queue) INTO touched FROM freed f;
    RETURN coalesce(touched, '{}');
END $$;

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- Taking a run from a worker that lives. Locks are taken in the one order: the worker's row, then the run's.
--
-- FOR UPDATE on the worker's row waits for its flush in flight; later flushes read `revoked` under their lock and leave the
-- run's entries out. The worker is told (a notification, its tick), drops the run, waits until nothing of it is under way,
-- and acknowledges; until then it does not claim the run again, while others may. `moved` is for the rare case that the
-- run changed hands between looking and locking: the caller asks again.
CREATE FUNCTION {schema}.hold_run(p_run uuid, OUT outcome text, OUT held_by bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_worker bigint;
BEGIN
    SELECT r.worker_id INTO held_by FROM {schema}.run r WHERE r.id = p_run;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    IF held_by IS NOT NULL THEN
        PERFORM 1 FROM {schema}.worker w WHERE w.id = held_by FOR UPDATE;
    END IF;
    SELECT r.worker_id INTO v_worker FROM {schema}.run r WHERE r.id = p_run FOR NO KEY UPDATE;
    outcome := CASE WHEN v_worker IS NOT DISTINCT FROM held_by THEN 'held' ELSE 'moved' END;
END $$;

CREATE FUNCTION {schema}.revoke_run(p_run uuid, p_worker bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE {schema}.worker SET revoked = revoked || p_run WHERE id = p_worker AND ended_at IS NULL;
$$;

CREATE FUNCTION {schema}.pause_run(p_run uuid, p_by text, OUT outcome text, OUT status text, OUT held_by bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    SELECT h.outcome, h.held_by INTO outcome, held_by FROM {schema}.hold_run(p_run) h;
    IF outcome <> 'held' THEN
        RETURN;
    END IF;
    SELECT r.status INTO status FROM {schema}.run r WHERE r.id = p_run;
    IF status IN ('paused', 'succeeded', 'failed', 'cancelled') THEN
        outcome := 'refused';
        RETURN;
    END IF;
    PERFORM {schema}.revoke_run(p_run, held_by);
    UPDATE {schema}.run r SET status = 'paused', worker_id = NULL, due_at = NULL, paused_at = clock_timestamp(), paused_by = p_by,
           due_when_resumed = CASE WHEN r.started_at IS NULL THEN r.due_at END WHERE r.id = p_run;
    outcome := 'done';
END $$;

-- A run that was never begun keeps its time; one that was finds out for itself what it waits for.
CREATE FUNCTION {schema}.resume_run(p_run uuid, OUT outcome text, OUT status text, OUT queue text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    SELECT r.status, r.queue INTO status, queue FROM {schema}.run r WHERE r.id = p_run FOR NO KEY UPDATE;
    outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN status <> 'paused' THEN 'refused' ELSE 'done' END;
    IF outcome = 'done' THEN
        UPDATE {schema}.run r SET error = NULL, due_when_resumed = NULL,
               status = CASE WHEN r.key IS NOT NULL AND r.due_when_resumed > clock_timestamp() THEN 'waiting' ELSE 'pending' END,
               due_at = coalesce(r.due_when_resumed, clock_timestamp())
        WHERE r.id = p_run;
    END IF;
END $$;

-- Sets a run back to where its journal had no entry from p_from on (nowhere, when that is NULL), and makes it due. The
-- claim is counted up, so that no warm copy of the later state is gone on with. Signals that those entries took lie in the
-- inbox again; requests to cancel are forgotten.
CREATE FUNCTION {schema}.rewind_run(p_run uuid, p_claim integer, p_from integer, p_statuses text[],
                                    OUT outcome text, OUT status text, OUT held_by bigint, OUT queue text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_claim integer;
BEGIN
    SELECT h.outcome, h.held_by INTO outcome, held_by FROM {schema}.hold_run(p_run) h;
    IF outcome <> 'held' THEN
        RETURN;
    END IF;
    SELECT r.status, r.claim, r.queue INTO status, v_claim, queue FROM {schema}.run r WHERE r.id = p_run;
    IF status <> ALL (p_statuses) OR v_claim <> p_claim THEN
        outcome := CASE WHEN status <> ALL (p_statuses) THEN 'refused' ELSE 'moved' END;
        RETURN;
    END IF;
    PERFORM {schema}.revoke_run(p_run, held_by);
    WITH gone AS (
        DELETE FROM {schema}.journal j WHERE j.run_id = p_run AND (j.seq >= p_from OR j.kind = 'cancel') RETURNING j.key
    ) DELETE FROM {schema}.journal j USING gone g
      WHERE j.run_id = p_run AND j.kind = 'attempt' AND split_part(j.key, '#', 1) = g.key;
    UPDATE {schema}.signal s SET taken = false, taken_seq = NULL WHERE s.run_id = p_run AND s.taken_seq >= p_from;
    -- A child that was set back meanwhile has another end, or none yet: then it will tell.
    UPDATE {schema}.signal s SET payload = json_build_object('status', c.status, 'output', c.output, 'error', c.error)
    FROM {schema}.run c WHERE s.run_id = p_run AND NOT s.taken AND c.parent_id = p_run
      AND s.name = '$child:' || c.parent_key AND c.finished_at IS NOT NULL;
    DELETE FROM {schema}.signal s USING {schema}.run c WHERE s.run_id = p_run AND NOT s.taken AND c.parent_id = p_run
      AND s.name = '$child:' || c.parent_key AND c.finished_at IS NULL;
    DELETE FROM {schema}.signal s WHERE s.run_id = p_run AND s.name = '$cancel';
    UPDATE {schema}.run r SET status = 'pending', worker_id = NULL, claim = r.claim + 1, due_at = clock_timestamp(),
           output = NULL, error = NULL, finished_at = NULL, waiting_for = NULL, due_when_resumed = NULL,
           deadline_at = clock_timestamp() + r.timeout
    WHERE r.id = p_run;
    outcome := 'done';
END $$;

-- A new run with the journal of another up to p_from, and the signals that those entries had not taken.
CREATE FUNCTION {schema}.fork_run(p_run uuid, p_new uuid, p_from integer, p_version integer, p_lane text, p_queue text,
                                  p_idempotency_key text, OUT outcome text, OUT run_id uuid, OUT queue text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM {schema}.run r WHERE r.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM {schema}.run c JOIN {schema}.journal j ON j.run_id = p_run AND j.key = c.parent_key
               WHERE c.parent_id = p_run AND c.finished_at IS NULL AND j.seq < p_from) THEN
        outcome := 'children';
        RETURN;
    END IF;
    INSERT INTO {schema}.run (id, workflow, version, lane, queue, priority, status, due_at, input, metadata, idempotency_key,
                              key, origin, timeout, deadline_at, started_at, generation,
                              started_by)
    SELECT p_new, r.workflow, p_version, p_lane, coalesce(p_queue, r.queue), r.priority, 'pending', clock_timestamp(), r.input,
           r.metadata, p_idempotency_key, r.key, coalesce(r.origin, r.id), r.timeout, clock_timestamp() + r.timeout, r.started_at,
           r.generation, r.id
    FROM {schema}.run r WHERE r.id = p_run
    ON CONFLICT (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, run.queue INTO run_id, queue;
    IF run_id IS NULL THEN
        SELECT n.id INTO run_id FROM {schema}.run r
        JOIN {schema}.run n ON n.workflow = r.workflow AND n.idempotency_key = p_idempotency_key WHERE r.id = p_run;
        outcome := 'duplicate';
        RETURN;
    END IF;
    INSERT INTO {schema}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt, worker_id, started_at, at)
    SELECT p_new, j.key, j.seq, j.kind, j.name, j.failed, j.value, j.claim, j.attempt, j.worker_id, j.started_at, j.at
    FROM {schema}.journal j WHERE j.run_id = p_run AND j.seq < p_from AND j.kind <> 'cancel' AND NOT (j.kind = 'attempt'
      AND EXISTS (SELECT 1 FROM {schema}.journal k WHERE k.run_id = p_run AND k.key = split_part(j.key, '#', 1)
                  AND k.seq >= p_from));
    WITH kept AS (
        INSERT INTO {schema}.signal (run_id, no, name, payload, key, sent_at)
        SELECT p_new, row_number() OVER (ORDER BY s.no), s.name, s.payload, s.key, s.sent_at FROM {schema}.signal s
        WHERE s.run_id = p_run AND s.name <> '$cancel' AND (NOT s.taken OR s.taken_seq >= p_from) RETURNING no
    ) UPDATE {schema}.run r SET signal_seq = (SELECT count(*) FROM kept) WHERE r.id = p_new;
    outcome := 'done';
END $$;

-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- The one place that puts a signal into a run's inbox: numbered under the run's row lock, so numbers follow commits.
-- Returns what became of it and the worker to tell, if one holds the run now, or has it in memory.
CREATE FUNCTION {schema}.send_signal(p_run uuid, p_name text, p_payload text, p_key text,
                                     OUT outcome text, OUT status text, OUT worker_id bigint, OUT queue text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    SELECT x.status, x.worker_id, x.warm_by, x.queue, x.signal_seq INTO r FROM {schema}.run x WHERE x.id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    status := r.status;
    worker_id := coalesce(r.worker_id, {schema}.waker(r.status, r.warm_by));
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

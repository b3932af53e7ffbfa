-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- What listings walk (inspect/statement.py): any of status, queue and workflow, in the order of creation. Runs that are
-- executed are left out, which spares each claim an entry: there are few of them at a time, and run_claimed finds them.
CREATE INDEX run_listed ON {schema}.run (status, queue, workflow, created_at) WHERE status <> 'running';
-- Runs without metadata cost nothing here.
CREATE INDEX run_metadata ON {schema}.run USING gin (metadata jsonb_path_ops) WHERE metadata <> '{}';

-- The views below are for people who like SQL; their columns are documented and stay. Payloads are shown as they are stored:
-- with a payload codec that is the encoded text.
CREATE VIEW {schema}.runs AS
SELECT r.id AS run_id, r.workflow, r.version, r.queue, r.key, r.priority, r.status,
       r.status = 'paused' AND r.error IS NOT NULL AS halted,
       r.waiting_for, r.due_at, r.deadline_at, r.created_at, r.started_at, r.claimed_at, r.finished_at,
       coalesce(r.finished_at, clock_timestamp()) - r.created_at AS age,
       r.finished_at - r.started_at AS duration,
       r.claim AS claims, r.generation, r.worker_id, w.name AS worker, r.parent_id, r.schedule, r.idempotency_key,
       r.deduplication_key, r.metadata, r.error->>'type' AS error_type, r.error->>'message' AS error_message,
       r.paused_at, r.paused_by
FROM {schema}.run r LEFT JOIN {schema}.worker w ON w.id = r.worker_id;
COMMENT ON VIEW {schema}.runs IS 'One row a run: how it stands, without its payloads. age counts from its creation, duration from its first claim; both are intervals.';

CREATE VIEW {schema}.run_steps AS
SELECT j.run_id, j.seq, j.key, j.name AS step, j.attempt, CASE WHEN j.kind = 'attempt' THEN 'retried'
            WHEN j.failed THEN 'failed' ELSE 'succeeded' END AS outcome,
       j.started_at, j.at AS ended_at, j.at - j.started_at AS duration, j.claim, j.worker_id, w.name AS worker,
       j.key LIKE '!rollback.%' AS compensation
FROM {schema}.journal j LEFT JOIN {schema}.worker w ON w.id = j.worker_id WHERE j.kind IN ('step', 'attempt');
COMMENT ON VIEW {schema}.run_steps IS 'One row an attempt of a step that is recorded: retried attempts, and the last one with its outcome. Ask for one run_id at a time.';

CREATE VIEW {schema}.run_waits AS
SELECT j.run_id, j.seq, j.key, j.kind, j.name, j.failed AS timed_out, j.started_at, j.at AS ended_at,
       j.at - j.started_at AS duration
FROM {schema}.journal j WHERE j.kind IN ('signal', 'timer')
UNION ALL
SELECT r.id, NULL, NULL, 'open', r.waiting_for, false,
       coalesce((SELECT max(j.at) FROM {schema}.journal j WHERE j.run_id = r.id), r.started_at), NULL, NULL
FROM {schema}.run r WHERE r.status = 'waiting' AND r.waiting_for IS NOT NULL;
COMMENT ON VIEW {schema}.run_waits IS 'One row a wait: those that are over (signal, timer), and what a run waits for now (kind open). Ask for one run_id at a time.';

CREATE VIEW {schema}.queue_depths AS
SELECT d.queue, d.due, d.later, d.running, d.oldest_due_at, clock_timestamp() - d.oldest_due_at AS oldest_age,
       coalesce(q.paused, false) AS paused, q.concurrency, q.per_key, q.rate, q.rate_period
FROM (SELECT r.queue,
             count(*) FILTER (WHERE r.due_at <= clock_timestamp()) AS due,
             count(*) FILTER (WHERE r.due_at > clock_timestamp()) AS later,
             count(*) FILTER (WHERE r.worker_id IS NOT NULL) AS running,
             min(r.due_at) FILTER (WHERE r.due_at <= clock_timestamp()) AS oldest_due_at
      FROM {schema}.run r WHERE r.due_at IS NOT NULL OR r.worker_id IS NOT NULL GROUP BY r.queue) d
LEFT JOIN {schema}.queue q ON q.name = d.queue;
COMMENT ON VIEW {schema}.queue_depths IS 'One row a queue that has something to do: runs that are due, due later and executed now, and the limits. It reads every such run.';

CREATE VIEW {schema}.workers AS
SELECT w.id AS worker_id, w.name, w.host, w.pid, w.queues, w.lanes, w.slots,
       (SELECT count(*) FROM {schema}.run r WHERE r.worker_id = w.id) AS running,
       l.worker_id IS NOT NULL AS leads, w.started_at, w.heartbeat_at, w.ended_at, w.end_reason,
       clock_timestamp() - w.heartbeat_at AS silent_for
FROM {schema}.worker w LEFT JOIN {schema}.leader l ON l.worker_id = w.id;
COMMENT ON VIEW {schema}.workers IS 'One row a life of a worker: what it serves (lanes are workflow@version), how many runs it executes, whether it leads, and how it ended.';

CREATE VIEW {schema}.schedules AS
SELECT s.name, s.workflow, s.version, s.plan, s.overlap, s.queue, s.paused, s.next_at, s.last_at, s.last_run, s.skipped
FROM {schema}.schedule s;
COMMENT ON VIEW {schema}.schedules IS 'One row a schedule: when it fires next, when it fired last, and how many times passed without a run.';

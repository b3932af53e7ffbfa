-- SPDX-FileCopyrightText: 2026 ForkTex
-- SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial

-- What must hold of a flow schema at rest, whatever died in between: each row that comes back is a violation.
-- Independent of the library: plain SQL over its tables. {schema} is put in by whoever runs it.

SELECT 'a run is not finished' AS violation, r.id::text AS what FROM {schema}.run r
WHERE r.finished_at IS NULL AND NOT (r.metadata ? 'endless')
UNION ALL
SELECT 'a run is held by a worker whose life has ended', r.id::text FROM {schema}.run r
JOIN {schema}.worker w ON w.id = r.worker_id WHERE w.ended_at IS NOT NULL
UNION ALL
SELECT 'two entries of a run have the same number', j.run_id::text FROM {schema}.journal j
GROUP BY j.run_id, j.seq HAVING count(*) > 1
UNION ALL
SELECT 'a journal key stands twice', j.run_id || ' ' || j.key FROM {schema}.journal j
GROUP BY j.run_id, j.key HAVING count(*) > 1
UNION ALL
SELECT 'an entry was written under a claim that the run never had', j.run_id || ' ' || j.key
FROM {schema}.journal j JOIN {schema}.run r ON r.id = j.run_id WHERE j.claim > r.claim OR j.claim < 1
UNION ALL
SELECT 'claims go backwards along a journal', a.run_id || ' ' || b.key
FROM (SELECT j.*, lag(j.claim) OVER (PARTITION BY j.run_id ORDER BY j.seq) AS before FROM {schema}.journal j) a
JOIN {schema}.journal b ON b.run_id = a.run_id AND b.seq = a.seq WHERE a.before > a.claim
UNION ALL
SELECT 'signals of a run are not numbered from 1 without a gap', s.run_id::text FROM {schema}.signal s
JOIN {schema}.run r ON r.id = s.run_id AND r.generation = 0  -- signals that a former generation took are gone
GROUP BY s.run_id HAVING min(s.no) <> 1 OR max(s.no) <> count(*)
UNION ALL
SELECT 'as many signals are taken as the journal says', t.run_id::text FROM (
    SELECT s.run_id, count(*) FILTER (WHERE s.taken) AS taken FROM {schema}.signal s
    WHERE s.name NOT LIKE '$%' GROUP BY s.run_id) t
JOIN {schema}.run r ON r.id = t.run_id
-- The journal of a run that continued as new knows nothing of what was taken before.
CROSS JOIN LATERAL (SELECT count(*) AS told FROM {schema}.journal j
    WHERE j.run_id = t.run_id AND j.kind = 'signal' AND NOT j.failed) j
WHERE t.taken < j.told OR (t.taken > j.told AND r.generation = 0)
UNION ALL
SELECT 'a worker lives that nobody knows of', w.id::text FROM {schema}.worker w
WHERE w.ended_at IS NULL AND w.heartbeat_at < clock_timestamp() - interval '1 minute'
UNION ALL
SELECT 'an ended child did not tell its parent', c.id::text FROM {schema}.run c
JOIN {schema}.run p ON p.id = c.parent_id
WHERE c.finished_at IS NOT NULL AND c.finished_at < p.finished_at
  AND NOT EXISTS (SELECT 1 FROM {schema}.signal s WHERE s.run_id = p.id AND s.name = '$child:' || c.parent_key)
UNION ALL
SELECT 'an effect of a transactional step stands twice, or without its step', l.run || ' ' || l.number
FROM {schema}.ledger l LEFT JOIN {schema}.run r ON r.id = l.run
GROUP BY l.run, l.number HAVING count(*) > 1 OR count(r.id) = 0
UNION ALL
SELECT 'as many lines as steps that booked them', r.id::text FROM {schema}.run r
WHERE r.workflow = 'ledger' AND (SELECT count(*) FROM {schema}.ledger l WHERE l.run = r.id)
   <> (SELECT count(*) FROM {schema}.journal j WHERE j.run_id = r.id AND j.kind = 'step' AND NOT j.failed)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the database says about workers and a run: the only place of the demo that knows tables."""

from datetime import datetime
from uuid import UUID

import asyncpg
from pydantic import BaseModel

WORKERS = """
SELECT w.id, w.name, w.pid, w.started_at, w.ended_at, w.end_reason, l.elected_at
FROM forktex_flow.worker w LEFT JOIN forktex_flow.leader l ON l.worker_id = w.id ORDER BY w.id
"""
RUN = "SELECT status, worker_id FROM forktex_flow.run WHERE id = $1"
RECORDS = """
SELECT j.name, w.name AS worker, j.at
FROM forktex_flow.journal j JOIN forktex_flow.worker w ON w.id = j.worker_id
WHERE j.run_id = $1 AND j.kind = 'step' ORDER BY j.seq
"""
# Right after a start of the server, a worker without a session may just not have come back yet:
# flow gives it five seconds. The demo wants to show the usual takeover.
SETTLED = "SELECT clock_timestamp() > pg_postmaster_start_time() + interval '5 s'"


class Worker(BaseModel):
    """A worker as the database knows it."""

    id: int
    name: str
    pid: int
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    elected_at: datetime | None
    """When it became the leader; None when it is not."""


class Record(BaseModel):
    """A step's entry in the journal."""

    name: str
    worker: str
    at: datetime


class State(BaseModel):
    """One look at a run and at who is there to run it."""

    workers: list[Worker] = []
    status: str = ""
    holder: int | None = None
    records: list[Record] = []

    @property
    def ended(self) -> bool:
        """Whether the run has its result."""
        return self.status in {"succeeded", "failed", "cancelled"}


async def look(pool: asyncpg.Pool, run_id: UUID | None) -> State:
    """Read it."""
    workers = await pool.fetch(WORKERS)
    run = await pool.fetchrow(RUN, run_id)
    records = await pool.fetch(RECORDS, run_id)
    return State(
        workers=[Worker(**row) for row in workers],
        status=run["status"] if run else "",
        holder=run["worker_id"] if run else None,
        records=[Record(**row) for row in records],
    )


async def old_enough(pool: asyncpg.Pool) -> bool:
    """Whether the server is up for long enough that a missing worker counts as gone at once."""
    return bool(await pool.fetchval(SETTLED))

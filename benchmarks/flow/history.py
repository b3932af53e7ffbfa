# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The server's CPU per step with empty tables, and with a million finished runs (of one step each)
in them.
"""

import asyncio
import statistics
from pathlib import Path

import asyncpg

from benchmarks.flow.many import AT_A_TIME, RUNS, STEPS, many
from benchmarks.flow.setting import SCHEMA, build, served, verdict
from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow

HISTORY, ROUNDS = 1_000_000, 7
FILL = f"""
WITH made AS (
    INSERT INTO {SCHEMA}.run (id, workflow, version, lane, queue, priority, status, input, output,
                              started_at, finished_at, claim)
    SELECT gen_random_uuid(), 'chain', 1, 'chain@1', 'default', 0, 'succeeded', '1', '1',
           clock_timestamp(), clock_timestamp(), 1
    FROM generate_series(1, $1) RETURNING id
) INSERT INTO {SCHEMA}.journal (run_id, key, seq, kind, name, failed, value, claim, attempt,
                                worker_id, started_at, at)
SELECT id, '1', 1, 'step', 'noop', false, '1', 1, 1, 1, clock_timestamp(), clock_timestamp()
FROM made
"""


def cpu(parent: int) -> float:
    """Return the CPU seconds of a server and of its processes, living and reaped (Linux)."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == parent or int(fields[1]) == parent:
            total += sum(map(int, fields[11:13])) / 100
    return total


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def per_step(flow: Flow, server: int) -> float:
    """Return the server's CPU per step in microseconds, the median of the rounds."""
    found = []
    for _ in range(ROUNDS):
        before = cpu(server)
        for _ in range(3):
            await many(flow)
        found.append((cpu(server) - before) / (3 * RUNS * STEPS) * 1e6)
    return statistics.median(found)


async def measure(dsn: str) -> None:
    """Measure, fill, measure, print."""
    connection = await asyncpg.connect(dsn)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    server = parent(backend)
    async with build(dsn) as flow, served(flow, concurrency=AT_A_TIME, lead=False):
        await many(flow)
        before = await per_step(flow, server)
        for _ in range(0, HISTORY, 100_000):
            await connection.execute(FILL, 100_000)
        await connection.execute(f"VACUUM ANALYZE {SCHEMA}.run, {SCHEMA}.journal")
        await connection.execute("CHECKPOINT")
        await many(flow)
        after = await per_step(flow, server)
    await connection.close()
    print(f"  server CPU a step: {before:.1f} us, with a million finished runs {after:.1f} us")
    verdict("after / before", after / before, "at most 1.1", met=after / before <= 1.1)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker is killed (SIGKILL) in the middle of twenty runs: how long until another process goes on
with each of them. Every second time the killed one leads.
"""

import asyncio
import signal
import time

import asyncpg

from benchmarks.flow.setting import SCHEMA, build, median_p99, verdict, workers
from forktex_core.embedded import EmbeddedPostgres

KILLS, RUNS = 12, 20
LEADER = f"""
SELECT w.pid FROM {SCHEMA}.leader l JOIN {SCHEMA}.worker w ON w.id = l.worker_id
WHERE w.ended_at IS NULL
"""
HELD = f"""
SELECT r.id FROM {SCHEMA}.run r JOIN {SCHEMA}.worker w ON w.id = r.worker_id WHERE w.pid = $1
"""
RESUMED = f"""
SELECT r.claimed_at AS at FROM {SCHEMA}.run r WHERE r.id = ANY ($1) AND r.claim > 1
"""


async def leader(connection: asyncpg.Connection) -> int:
    """Wait for a leader; return its process id."""
    while (pid := await connection.fetchval(LEADER)) is None:
        await asyncio.sleep(0.05)
    return int(pid)


async def kill(dsn: str, connection: asyncpg.Connection, *, leads: bool) -> list[float]:
    """Kill one of two workers; return the seconds until each run of its was claimed anew."""
    async with build(dsn) as flow, workers(dsn, 2) as processes:
        head = await leader(connection)
        await asyncio.sleep(2)  # the grace after an election is over
        await flow.start_many("chain", [4000] * RUNS)
        victim = next(p for p in processes if (p.pid == head) == leads)
        while not (held := await connection.fetch(HELD, victim.pid)):
            await asyncio.sleep(0.01)
        runs = [row["id"] for row in held]
        victim.send_signal(signal.SIGKILL)
        died = time.time()
        while len(found := await connection.fetch(RESUMED, runs)) < len(runs):
            await asyncio.sleep(0.02)
            assert time.time() < died + 30
    await connection.execute(f"TRUNCATE {SCHEMA}.run, {SCHEMA}.journal")
    return [row["at"].timestamp() - died for row in found]


async def measure(dsn: str) -> None:
    """Kill in turns, print."""
    connection = await asyncpg.connect(dsn)
    async with build(dsn):
        pass
    took: dict[bool, list[float]] = {False: [], True: []}
    for number in range(KILLS):
        leads = number % 2 == 1
        took[leads].append(max(await kill(dsn, connection, leads=leads)))
    await connection.close()
    for leads, times in took.items():
        middle, last = median_p99(times)[0], max(times)
        what = "the leader" if leads else "a worker"
        verdict(f"{what} killed, s until its last run goes on, median", middle, "at most 1",
                met=middle <= 1)  # fmt: skip
        verdict(f"{what} killed, the worst of {len(times)}", last, "at most 2", met=last <= 2)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

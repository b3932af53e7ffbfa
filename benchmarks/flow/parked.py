# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""100,000 parked runs: the memory and the CPU of the worker that parked them."""

import asyncio
from pathlib import Path

import asyncpg

from benchmarks.flow.setting import SCHEMA, build, verdict, workers
from forktex_core.embedded import EmbeddedPostgres

RUNS, SECONDS = 100_000, 10.0


def status(pid: int) -> tuple[float, float]:
    """Return resident MB and CPU seconds of a process (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(found.split()[1]) for found in lines if found.startswith("VmRSS:"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return resident / 1024, (int(fields[11]) + int(fields[12])) / 100


async def measure(dsn: str) -> None:
    """Park, wait, print."""
    connection = await asyncpg.connect(dsn)
    open_runs = f"SELECT count(*) FROM {SCHEMA}.run WHERE status <> 'waiting'"
    async with build(dsn) as flow, workers(dsn) as (worker,):
        for _ in range(0, RUNS, 10_000):
            await flow.start_many("parked", [None] * 10_000)
        while await connection.fetchval(open_runs):
            await asyncio.sleep(0.5)
        await asyncio.sleep(3)
        _, before = status(worker.pid)
        await asyncio.sleep(SECONDS)
        resident, after = status(worker.pid)
    await connection.close()
    verdict("resident MB of the worker", resident, "at most 300", met=resident <= 300)
    share = (after - before) / SECONDS * 100
    verdict("CPU of the worker, %", share, "none: below 1", met=share < 1)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

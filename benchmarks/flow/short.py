# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""1,000 one-step runs: what ``start`` costs beside one raw INSERT of a run, how fast
``start_many`` is, and how fast a worker drains.
"""

import asyncio
import statistics
import time
from uuid import uuid4

from benchmarks.flow.setting import SCHEMA, Floor, build, served, verdict
from forktex_core.embedded import EmbeddedPostgres

RUNS, ROUNDS = 1000, 3
INSERT = (
    f"INSERT INTO {SCHEMA}.run (id, workflow, version, lane, queue, priority, status, due_at,"
    " input) VALUES ($1, 'chain', 1, 'chain@1', 'nobody', 0, 'pending', clock_timestamp(), $2)"
)


async def measure(dsn: str) -> None:
    """Take turns, print."""
    raw: list[float] = []
    started: list[float] = []
    bulk, drained = [], []
    async with build(dsn) as flow, Floor(dsn) as floor:
        insert = await floor.connection.prepare(INSERT)
        for _ in range(ROUNDS):
            for _ in range(RUNS // 2):
                began = time.perf_counter()
                await insert.fetch(uuid4(), "1")
                raw.append(time.perf_counter() - began)
                began = time.perf_counter()
                await flow.start("chain", input=1, queue="nobody")
                started.append(time.perf_counter() - began)
            began = time.perf_counter()
            await flow.start_many("chain", [1] * RUNS, queue="nobody")
            bulk.append(RUNS / (time.perf_counter() - began))
        async with served(flow, concurrency=200, lead=False):
            await flow.run("chain", 1)
            for _ in range(ROUNDS):
                began = time.perf_counter()
                ids = await flow.start_many("chain", [1] * RUNS)
                await asyncio.gather(*(flow.result(i) for i in ids))
                drained.append(RUNS / (time.perf_counter() - began))
    a, b = statistics.median(raw), statistics.median(started)
    print(f"  raw INSERT {a * 1e3:.3f} ms, start {b * 1e3:.3f} ms")
    verdict("start / raw INSERT", b / a, "at most 1.3", met=b / a <= 1.3)
    rate = statistics.median(bulk)
    verdict("start_many, runs/s", rate, "at least 20,000", met=rate >= 20_000)
    rate = statistics.median(drained)
    verdict("started, drained and read, runs/s", rate, "at least 5,000", met=rate >= 5_000)


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The course that every engine runs: fill, bytes, drain in one worker, then pickups on an idle
worker."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import redis

URL, JOBS = sys.argv[1], int(sys.argv[2])
PICKUPS = 100
ran = 0
picked: list[float] = []
drained = asyncio.Event()


def note(sent: float) -> None:
    """What every engine's job does: 0 is a no-op that is counted, else the time at which it was
    sent."""
    global ran  # noqa: PLW0603 - one count for one process
    if sent:
        picked.append(time.time() - sent)
        return
    ran += 1
    if ran == JOBS:
        drained.set()


async def run(
    enqueue: Callable[[float], Awaitable[object]], work: Callable[[], Awaitable[object]]
) -> None:
    """Measure an engine by how it enqueues a job and how it runs a worker until it is cancelled."""
    server = redis.Redis.from_url(URL)
    server.flushall()
    await enqueue(0)
    before = server.info("memory")["used_memory"]
    for _ in range(0, JOBS - 1, 50):
        await asyncio.gather(*(enqueue(0) for _ in range(min(50, JOBS - 1))))
    size = (server.info("memory")["used_memory"] - before) / JOBS
    start = time.perf_counter()
    worker = asyncio.create_task(work())
    await asyncio.wait([worker, asyncio.create_task(drained.wait())], return_when="FIRST_COMPLETED")
    rate = JOBS / (time.perf_counter() - start)
    await asyncio.sleep(1)
    for number in range(PICKUPS):
        await enqueue(time.time())
        while len(picked) <= number:  # noqa: ASYNC110 - the same poll for every engine
            await asyncio.sleep(0.001)
    picked.sort()
    figures = {
        "jobs/s": rate,
        "p50 ms": statistics.median(picked) * 1000,
        "p99 ms": picked[int(len(picked) * 0.99)] * 1000,
        "bytes": size,
    }
    print(json.dumps(figures), flush=True)
    import os

    os._exit(0)

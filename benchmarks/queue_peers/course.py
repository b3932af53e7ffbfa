# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The course of every engine: ``fill`` enqueues no-ops and ends, so that a queue's memory can be
read when nobody is connected; ``run`` fills, drains in one worker, then measures pickups on an idle
worker."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable

URL, JOBS, FILL_ONLY = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "fill"
CALLERS = 50
PICKUPS = 200
LONGEST_PAUSE = 0.1  # seconds: a job comes at any point of a polling interval
ran = 0
picked: list[float] = []
drained = asyncio.Event()
came = asyncio.Event()


def note(sent: float) -> None:
    """What every engine's job does: 0 is a no-op that is counted, else the time at which it was
    sent."""
    global ran  # noqa: PLW0603 - one count for one process
    if sent:
        picked.append(time.perf_counter() - sent)
        came.set()
        return
    ran += 1
    if ran == JOBS:
        drained.set()


async def fill(enqueue: Callable[[float], Awaitable[object]]) -> float:
    """Enqueue all no-ops, fifty callers at a time; how many per second."""
    await asyncio.gather(*(enqueue(0) for _ in range(min(CALLERS, JOBS))))
    start = time.perf_counter()
    for _ in range(CALLERS, JOBS, CALLERS):
        await asyncio.gather(*(enqueue(0) for _ in range(CALLERS)))
    return (JOBS - CALLERS) / (time.perf_counter() - start)


async def drain(worker: "asyncio.Task[object]") -> float:
    """Jobs per second of a worker that has just been started."""
    start = time.perf_counter()
    await asyncio.wait([worker, asyncio.create_task(drained.wait())], return_when="FIRST_COMPLETED")
    if worker.done():
        raise RuntimeError(f"the worker ended after {ran} of {JOBS} jobs") from worker.exception()
    return JOBS / (time.perf_counter() - start)


async def pick_up(enqueue: Callable[[float], Awaitable[object]]) -> None:
    """Jobs for an idle worker, one at a time at random moments."""
    chance = random.Random(7)
    for _ in range(PICKUPS):
        await asyncio.sleep(chance.uniform(0, LONGEST_PAUSE))
        came.clear()
        await enqueue(time.perf_counter())
        await came.wait()


async def run(
    enqueue: Callable[[float], Awaitable[object]], work: Callable[[], Awaitable[object]]
) -> None:
    """Measure an engine by how it enqueues a job and how it runs a worker until it is cancelled."""
    figures: dict[str, object] = {"enqueue/s": await fill(enqueue)}
    if not FILL_ONLY:
        worker = asyncio.ensure_future(work())
        figures["jobs/s"] = await drain(worker)
        await asyncio.sleep(1)
        await pick_up(enqueue)
        figures["pickups"] = [1000 * pickup for pickup in picked]
    print(json.dumps(figures), flush=True)
    os._exit(0)

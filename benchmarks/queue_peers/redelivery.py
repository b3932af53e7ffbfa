# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Seconds from the SIGKILL of a worker to the next run of the job that it held, with the defaults,
and milliseconds by which delayed jobs start late."""

# ruff: noqa: ASYNC110, ASYNC220 - it polls, as somebody would who looks from outside
import asyncio
import statistics
import subprocess
import sys
import time

from forktex_core.embedded import EmbeddedRedis
from forktex_core.queue import Queue, current_job

DELAYED = 200
queue = Queue(tracing=False)


@queue.job(timeout=None)
async def hold() -> None:
    """Say that it runs, and stay."""
    await current_job().progress(0.5, str(current_job().crashes))
    await asyncio.Event().wait()


async def redelivery(url: str) -> float:
    """One kill."""
    job = await hold.enqueue()
    workers = [subprocess.Popen([sys.executable, __file__, "worker", url]) for _ in range(2)]
    try:
        await noted(job, "0")
        stats = await queue.stats()
        (owner,) = [worker.info["pid"] for worker in stats.workers if worker.holding]
        killed = time.perf_counter()
        next(worker for worker in workers if worker.pid == owner).kill()
        await noted(job, "1")
        return time.perf_counter() - killed
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        await queue.submitter.wire.insist(("FLUSHALL",))


async def noted(job, note: str) -> None:
    """Wait until the job says so."""
    while (progress := await job.progress()) is None or progress.note != note:
        await asyncio.sleep(0.01)


async def lateness(url: str) -> list[float]:
    """By how much jobs that are delayed by up to two seconds start late, ms."""
    late: list[float] = []
    async with Queue(url, "late", tracing=False) as other:

        @other.job
        async def note(due: float) -> None:
            late.append(1000 * (time.time() - due))

        worker = asyncio.create_task(other.process())
        for number in range(DELAYED):
            delay = 0.05 + number * 0.01
            await note.options(delay=delay).enqueue(time.time() + delay)
        while len(late) < DELAYED:
            await asyncio.sleep(0.01)
        worker.cancel()
    return sorted(late)


async def main(times: int) -> None:
    """Measure both."""
    async with EmbeddedRedis() as server:
        async with queue.configure(server.url):
            seconds = [await redelivery(server.url) for _ in range(times)]
        print(f"redelivery after SIGKILL: median {statistics.median(seconds):.1f} s, ", end="")
        print(f"longest {max(seconds):.1f} s of {times}")
        late = await lateness(server.url)
        print(f"delayed jobs start late by {statistics.median(late):.2f} ms (p50), ", end="")
        print(f"{late[int(len(late) * 0.99)]:.2f} ms (p99)")


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(queue.configure(sys.argv[2]).process())
    else:
        asyncio.run(main(int(sys.argv[1])))

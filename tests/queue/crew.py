# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Jobs and workers in processes of their own: run as a script with a Redis URL, they run until
killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import redis.asyncio

from forktex_core.queue import Queue, current_job

QUEUE = Queue(name="crew", tracing=False)


async def mark(key: str, url: str) -> None:
    """Count a run where tests can see it."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.hincrby(key, current_job().id, 1)


@QUEUE.job(timeout=None)
async def hold(url: str, seconds: float = 60) -> None:
    """Say that it runs, and stay."""
    await mark("held", url)
    await asyncio.sleep(seconds)


@QUEUE.job
async def die(url: str) -> None:
    """Take the worker down."""
    await mark("died", url)
    os.kill(os.getpid(), signal.SIGKILL)


@QUEUE.job
async def count(number: int) -> None:
    """Count a run on the worker's own connection."""
    client = current_job().state["client"]
    await client.hincrby("runs", str(number), 1)


@QUEUE.job
async def tell(url: str) -> None:
    """Say that it ran."""
    await mark("told", url)


@QUEUE.on_startup
def connect(state: dict) -> None:
    """Open what `count` needs."""
    state["client"] = redis.asyncio.Redis.from_url(QUEUE._url)


@QUEUE.on_shutdown
async def disconnect(state: dict) -> None:
    """Close it."""
    await state["client"].aclose()


@contextmanager
def worker(url: str, *options: str) -> Iterator[subprocess.Popen]:
    """A worker process, killed at the end of the block."""
    process = subprocess.Popen([sys.executable, __file__, url, *options])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    QUEUE.configure(sys.argv[1])
    for option in sys.argv[2:]:
        QUEUE.dead_after = float(option.partition("=")[2])
    asyncio.run(QUEUE.process(concurrency=20))

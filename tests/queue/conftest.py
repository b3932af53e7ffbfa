# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A queue on the test server, and workers in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from forktex_core.queue import Queue, Worker


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Queue]:
    """An empty queue."""
    async with Queue(redis_url, "test", dead_after=1.0) as queue:
        yield queue


@asynccontextmanager
async def working(queue: Queue, **options: object) -> AsyncIterator[Worker]:
    """A worker that runs as long as the block."""
    options = {"signals": False, "grace": 0.5} | options
    worker = Worker({queue: 1}, **options)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


@pytest.fixture
async def work(queue: Queue) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    """Starts workers of the queue, stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> Worker:
            return await stack.enter_async_context(working(queue, **options))

        yield start

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The default queue of a process, for services that need only one."""

from typing import Any

from forktex_core.queue.handle import Job
from forktex_core.queue.job import AnyJob
from forktex_core.queue.queue import Queue

default_queue = Queue()
job = default_queue.job


def init(redis_url: str) -> Queue:
    """Say where the default queue's server is. Raises ConfigurationError when it is connected
    already."""
    return default_queue.configure(redis_url)


async def enqueue(name: str | AnyJob, /, *args: Any, **words: Any) -> Job[Any]:
    """`Queue.enqueue` of the default queue."""
    return await default_queue.enqueue(name, *args, **words)


async def process(**options: Any) -> None:
    """`Queue.process` of the default queue."""
    await default_queue.process(**options)


async def close() -> None:
    """`Queue.close` of the default queue."""
    await default_queue.close()

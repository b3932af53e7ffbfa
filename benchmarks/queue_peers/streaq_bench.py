# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""streaQ, tuned after its documentation ("Custom serializer", "Other configuration options") and
its own benchmark:

- orjson instead of pickle (``serializer`` and ``deserializer``; a quarter more jobs per second);
- ``concurrency`` of 100, and as many prefetched, which is the most useful and its default;
- no result is kept (``ttl=0``).

It has no further switch for speed; its own benchmark uses the defaults.
"""

import asyncio

import course
import orjson
from streaq import Worker

producer, worker = (
    Worker(
        redis_url=course.URL,
        concurrency=100,
        prefetch=100,
        handle_signals=False,
        serializer=orjson.dumps,
        deserializer=orjson.loads,
    )
    for _ in range(2)
)


async def noop(sent: float):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course: a worker can be entered once, so the producer is one of its own."""
    worker.task(ttl=0)(noop)
    async with producer:
        task = producer.task(ttl=0)(noop)

        async def enqueue(sent):
            return await task.enqueue(sent)

        await course.run(enqueue, worker.run_async)


asyncio.run(main())

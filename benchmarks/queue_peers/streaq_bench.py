# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""streaQ."""

import asyncio

import course
from streaq import Worker

worker = Worker(redis_url=course.URL, concurrency=100, handle_signals=False)


@worker.task(ttl=0)
async def noop(sent: float):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    async with worker:

        async def enqueue(sent):
            return await noop.enqueue(sent)

        await course.run(enqueue, worker.run_async)


asyncio.run(main())

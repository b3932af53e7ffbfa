# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""SAQ: as many operations at once as jobs, and no result."""

import asyncio

import course
from saq import Queue, Worker

queue = Queue.from_url(course.URL, max_concurrent_ops=100)


async def noop(_, *, sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    await queue.connect()
    worker = Worker(queue, [noop], concurrency=100)
    await course.run(lambda sent: queue.enqueue("noop", sent=sent, ttl=-1), worker.start)


asyncio.run(main())

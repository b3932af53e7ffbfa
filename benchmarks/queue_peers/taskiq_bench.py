# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""taskiq with its list broker, the quicker of its two, and without a result backend."""

import asyncio

import course
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(course.URL)


@broker.task
async def noop(sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    await broker.startup()
    await course.run(
        noop.kiq, lambda: run_receiver_task(broker, max_async_tasks=100, max_prefetch=100)
    )


asyncio.run(main())

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""arq: a shorter poll than the default half a second, and no result."""

import asyncio

import course
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

SETTINGS = RedisSettings.from_dsn(course.URL)


async def noop(_, sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    pool = await create_pool(SETTINGS)
    worker = Worker(
        [noop],
        redis_settings=SETTINGS,
        max_jobs=100,
        queue_read_limit=500,
        poll_delay=0.01,
        keep_result=0,
        log_results=False,
        handle_signals=False,
    )
    await course.run(lambda sent: pool.enqueue_job("noop", sent), worker.async_run)


asyncio.run(main())

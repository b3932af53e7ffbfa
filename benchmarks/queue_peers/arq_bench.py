# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""arq, tuned after its documentation (usage, "Custom job serializers", and the parameters of
``Worker``):

- msgpack instead of pickle, as its example has it;
- ``poll_delay`` of 10 ms instead of 500: its only way to a job is to poll, 5 ms would halve the
  pickup and cost a fifth of its throughput;
- ``max_jobs`` of 100 with ``queue_read_limit`` at its default for that, five times as many;
- no result is kept (``keep_result=0``), none is logged.
"""

import asyncio

import course
import msgpack
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

CODEC = {"job_serializer": msgpack.packb, "job_deserializer": msgpack.unpackb}
SETTINGS = RedisSettings.from_dsn(course.URL)


async def noop(_, sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    pool = await create_pool(SETTINGS, **CODEC)
    worker = Worker(
        [noop],
        redis_settings=SETTINGS,
        max_jobs=100,
        queue_read_limit=500,
        poll_delay=0.01,
        keep_result=0,
        log_results=False,
        handle_signals=False,
        **CODEC,
    )
    await course.run(lambda sent: pool.enqueue_job("noop", sent), worker.async_run)


asyncio.run(main())

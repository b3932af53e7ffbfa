# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""taskiq, tuned after its documentation (guide, "CLI", and taskiq-redis' README):

- the list broker, the quicker of its two: it acknowledges nothing, so a killed worker loses jobs;
- no result backend;
- the ORJSON serializer (extra ``orjson``) and no casting of parameters (``--no-parse``);
- ``--max-async-tasks`` of 100 and as many prefetched (none is prefetched by default: slower).
"""

import asyncio

import course
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(course.URL).with_serializer(ORJSONSerializer())


@broker.task
async def noop(sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    await broker.startup()
    await course.run(
        noop.kiq,
        lambda: run_receiver_task(
            broker, max_async_tasks=100, max_prefetch=100, validate_params=False
        ),
    )


asyncio.run(main())

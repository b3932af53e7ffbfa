# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""SAQ, tuned after its documentation (README and the parameters of ``Queue`` and ``Worker``):

- orjson instead of json (``dump`` and ``load``: "custom serializers");
- hiredis is installed, as its installation notes advise;
- ``concurrency`` of 100, and as many operations on the server at once (``max_concurrent_ops``; its
  default of 20 is within the noise);
- it is told of a job at once, so there is no interval of polling to shorten;
- no result is kept (``ttl=-1``).
"""

import asyncio

import course
import orjson
from saq import Queue, Worker

queue = Queue.from_url(course.URL, max_concurrent_ops=100, dump=orjson.dumps, load=orjson.loads)


async def noop(_, *, sent):
    """Do nothing."""
    course.note(sent)


async def main():
    """Run the course."""
    await queue.connect()
    worker = Worker(queue, [noop], concurrency=100)
    await course.run(lambda sent: queue.enqueue("noop", sent=sent, ttl=-1), worker.start)


asyncio.run(main())

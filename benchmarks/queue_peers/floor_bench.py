# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A bare consumer group, one hundred entries a read, acknowledged and deleted in one pipeline:
headroom, not a queue."""

import asyncio

import course
import redis.asyncio


async def main():
    """Run the course."""
    client = redis.asyncio.Redis.from_url(course.URL, protocol=2)

    async def work():
        await client.xgroup_create("bare", "g", "0", mkstream=True)
        while True:
            reply = await client.xreadgroup("g", "c", {"bare": ">"}, count=100, block=1000)
            for _, entries in reply or []:
                ids = [entry for entry, _ in entries]
                for _, fields in entries:
                    course.note(float(fields[b"sent"]))
                pipeline = client.pipeline(transaction=False)
                pipeline.xack("bare", "g", *ids)
                pipeline.xdel("bare", *ids)
                await pipeline.execute()

    await course.run(lambda sent: client.xadd("bare", {"sent": sent}), work)


asyncio.run(main())

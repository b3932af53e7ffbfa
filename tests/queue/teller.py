# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A service that enqueues jobs in a transaction and kills itself at a given moment: run as a script
with the addresses of both servers and the moment."""

import asyncio
import os
import signal
import sys

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from forktex_core.queue import Queue

JOBS = 20


def die(*_: object) -> None:
    """End at once."""
    os.kill(os.getpid(), signal.SIGKILL)


async def pay(redis_url: str, database_url: str, moment: str) -> None:
    """Write rows and enqueue jobs in one transaction, and die."""
    engine = create_async_engine(database_url)
    queue = Queue(redis_url, outbox=engine)

    @queue.job
    async def receipt(number: int) -> None: ...

    async with AsyncSession(engine) as session:
        for number in range(JOBS):
            await session.execute(text("INSERT INTO payment VALUES (:n)"), {"n": number})
            await queue.enqueue("receipt", number, session=session)
        if moment == "before the commit":
            die()
        if moment == "after the commit":
            event.listen(session.sync_session, "after_commit", die)
        if moment == "after the relay":
            submit = queue.submitter.submit

            async def submit_and_die(envelopes: list) -> list[str]:
                await submit(envelopes)
                die()

            queue.submitter.submit = submit_and_die
        await session.commit()
    await queue.close()


if __name__ == "__main__":
    asyncio.run(pay(*sys.argv[1:]))

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The outbox: a job is written with the caller's transaction and enqueued after its commit.

1. ``write`` inserts the message into ``forktex_queue.outbox`` through the caller's session. A
rollback takes it along.
2. After the commit the same process relays at once.
3. A relay locks rows (SKIP LOCKED), enqueues them with the guard "once per job id", deletes them,
commits. A crash before
   the enqueueing leaves the rows; a crash after it leaves rows whose guard has fired, so the next
   relay only deletes
   them. The guard lasts a day: a row is doubled only when no relay came through for longer.
4. Workers relay every second what no process came to relay after its commit.

Sequence numbers keep the order of one transaction's jobs. SQLAlchemy is imported here only; no
table is in anybody's metadata.
"""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from forktex_core.queue.envelope import Envelope
from forktex_core.queue.errors import ConfigurationError, QueueError
from forktex_core.queue.message import Message

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    from forktex_core.queue.queue import Queue

log = logging.getLogger("forktex_core.queue")

MOST = 500  # rows of one relay's transaction
MARK = "forktex_queue_relay"  # in session.info: queues that relay after the commit
relays: dict["Queue", asyncio.Task[None]] = {}

INSERT = text(
    "INSERT INTO forktex_queue.outbox (queue, message, words) VALUES (:queue, :message, :words)"
)
TAKE = text(
    "SELECT id, message, words FROM forktex_queue.outbox WHERE queue = :queue "
    "ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED"
)
DELETE = text("DELETE FROM forktex_queue.outbox WHERE id = ANY(:ids)")


def engine_of(queue: "Queue") -> "AsyncEngine":
    """The outbox's database. Raises ConfigurationError without one."""
    if queue.outbox is None:
        raise ConfigurationError(
            f"{queue!r} has no outbox: give Queue(outbox=engine), that of the session"
        )
    return queue.outbox


async def migrate(queue: "Queue") -> None:
    """Bring the schema up to date: each file of ``sql`` once, in order, one process at a time."""
    scripts = sorted(
        (
            file
            for file in (files("forktex_core.queue") / "sql").iterdir()
            if file.name.endswith(".sql")
        ),
        key=lambda file: file.name,
    )
    async with engine_of(queue).begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('forktex_queue'))"))
        await connection.execute(text("CREATE SCHEMA IF NOT EXISTS forktex_queue"))
        await connection.execute(
            text("CREATE TABLE IF NOT EXISTS forktex_queue.migration (name text PRIMARY KEY)")
        )
        done = set(
            (await connection.execute(text("SELECT name FROM forktex_queue.migration"))).scalars()
        )
        for script in scripts:
            if script.name not in done:
                await connection.execute(text(script.read_text()))
                await connection.execute(
                    text("INSERT INTO forktex_queue.migration VALUES (:name)"),
                    {"name": script.name},
                )


async def write(queue: "Queue", session: "AsyncSession", envelopes: Sequence[Envelope]) -> None:
    """Write jobs with the session's transaction, and relay after its commit."""
    engine_of(queue)
    rows = [
        {
            "queue": queue.name,
            "message": envelope.message.encode().decode(),
            "words": json.dumps([envelope.lane, fixed(envelope.due), envelope.unique]),
        }
        for envelope in envelopes
    ]
    with outbox_there(queue):
        await session.execute(INSERT, rows)
    marked: set[Queue] = session.info.setdefault(MARK, set())
    if queue not in marked:
        marked.add(queue)
        loop = asyncio.get_running_loop()

        def relay_soon(_: Any) -> None:
            marked.discard(queue)
            loop.call_soon_threadsafe(relay_aside, queue)

        event.listen(session.sync_session, "after_commit", relay_soon, once=True)


def fixed(due: str) -> str:
    """A delay counts from the enqueueing, not from the relay."""
    from forktex_core.queue.definition import now_ms

    return str(now_ms() + int(due)) if due.startswith("+") else due


def relay_aside(queue: "Queue") -> None:
    """Relay in the background; a relay that is under way is followed by another."""
    before = relays.get(queue)

    async def run() -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await relay(queue)
        except (QueueError, SQLAlchemyError, OSError) as error:
            log.warning("outbox of %r: a worker will relay what is left (%r)", queue, error)

    task = relays[queue] = asyncio.create_task(run())
    task.add_done_callback(lambda _: relays.pop(queue) if relays.get(queue) is task else None)


async def finish_relays(queue: "Queue") -> None:
    """Wait for the relays under way."""
    while (task := relays.get(queue)) is not None:
        await asyncio.wait([task])
        await asyncio.sleep(0)


async def relay(queue: "Queue") -> int:
    """Enqueue what the outbox holds; how many jobs. Raises QueueUnavailableError,
    QueueFullError, SQLAlchemyError."""
    engine, moved = engine_of(queue), 0
    while True:
        with outbox_there(queue):
            relayed = await relay_some(queue, engine)
        moved += relayed
        if relayed < MOST:
            return moved


async def relay_some(queue: "Queue", engine: "AsyncEngine") -> int:
    """One transaction of a relay: how many rows."""
    async with engine.begin() as connection:
        found = await connection.execute(TAKE, {"queue": queue.name, "most": MOST})
        rows = found.all()
        if rows:
            await queue.submitter.submit([restored(row.message, row.words) for row in rows])
            await connection.execute(DELETE, {"ids": [row.id for row in rows]})
    return len(rows)


@contextmanager
def outbox_there(queue: "Queue") -> Iterator[None]:
    """ConfigurationError when the table isn't there."""
    try:
        yield
    except ProgrammingError as error:
        if "forktex_queue" not in str(error.orig):
            raise
        raise ConfigurationError(
            f"the database of {queue!r} has no outbox yet: await queue.create_outbox() once"
        ) from error


def restored(message: str, words: str) -> Envelope:
    """The envelope of a row, guarded. A row that is none goes on as it is, to be a dead letter."""
    found = Message.read(message.encode())
    if not found.name:
        return Envelope(found)
    lane, due, unique = json.loads(words)
    return Envelope(found, lane, due, unique, "o")


async def relay_forever(queue: "Queue", every: float) -> None:
    """What a worker does for the outbox."""
    while True:
        try:
            await relay(queue)
        except (QueueError, SQLAlchemyError, OSError) as error:
            log.warning("outbox of %r is not relayed now: %r", queue, error)
        await asyncio.sleep(every)

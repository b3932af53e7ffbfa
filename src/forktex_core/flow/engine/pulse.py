# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The worker's sign of life, on one connection that it keeps for itself.

The connection holds a session advisory lock (dropped by Postgres the moment the process or its host
is gone), LISTENs for wake-ups, and carries one tick a second: heartbeat, bid for the leadership,
what is due and when, and signals that no notification told of. A life (a row of ``worker``)
outlives a lost connection as long as nobody ended it; a worker that finds its life ended begins a
new one, after everything of the old one was sealed.
"""

import asyncio
import logging
import os
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow.engine.settings import WorkerSettings
from forktex_core.flow.engine.wakeup import channel
from forktex_core.flow.store.connection import Link
from forktex_core.flow.store.passage import Passage
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry

_logger = logging.getLogger("forktex_core.flow.worker")


def lock_class(schema: str) -> int:
    """Return the first half of the advisory locks of a schema: (class, worker id), and (class, 0)
    for the leader.
    """
    return zlib.crc32(f"forktex_flow:{schema}".encode()) - (1 << 31)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself when its life begins."""

    name: str
    host: str
    pid: int
    queues: list[str]
    lanes: list[str]
    slots: int


class Clock:
    """The database's time, from this process' monotonic clock and the offset seen at the quickest
    recent exchange.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._error = float("inf")

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.monotonic() + self._offset

    def observe(self, sent: float, server: float, received: float) -> None:
        """Learn from an exchange: monotonic times of sending and receiving, and the server's time
        in between.
        """
        self._error += 0.0005  # what was learned ages
        if received - sent < self._error:
            self._error = received - sent
            self._offset = server - (sent + received) / 2


class Pulse:
    """See the top of the file.

    Args:
        link: the connection, used by nobody else.
        schema: the schema of the tables.
        identity: what the worker says of itself.
        clock: told of the server's time at each tick.
        session_lock: whether this connection is a session of its own (not behind a transaction
            pooler).
        on_notify: called with the payload of each wake-up.
        on_new_life: called with the id of each life that begins.
        passage: what the statements go through, with extensions.
    """

    def __init__(
        self,
        link: Link,
        schema: str,
        identity: Identity,
        clock: Clock,
        *,
        session_lock: bool,
        on_notify: Callable[[str], None],
        on_new_life: Callable[[int], None],
        passage: Passage | None = None,
    ) -> None:
        self._link, self._identity, self._clock = link, identity, clock
        self._store = Store(link, schema, passage=passage)
        self._schema, self._session_lock = schema, session_lock
        self._class = lock_class(schema) if session_lock else None
        self._on_notify, self._on_new_life = on_notify, on_new_life
        self.worker_id = 0
        link.on_connect = self._connected

    async def begin(self) -> None:
        """Begin a life."""
        i = self._identity
        self.worker_id = 0
        row = await self._store.register_worker(
            i.name, i.host, i.pid, i.queues, i.lanes, i.slots, self._session_lock, self._class or 0
        )
        self.worker_id = row["id"]
        self._on_new_life(self.worker_id)

    async def tick(
        self,
        seen: dict[UUID, int],
        *,
        lead: bool,
        trust_locks: bool,
        lease: timedelta,
        grace: timedelta,
    ) -> Any:
        """Beat once; return the row of the tick. An ended life has ``alive`` false."""
        i = self._identity
        sent = time.monotonic()
        asked = self._store.tick(
            self.worker_id, self._class, i.queues, i.lanes, seen,
            lead=lead, trust_locks=trust_locks, lease=lease, grace=grace,
        )  # fmt: skip
        row = await asyncio.wait_for(asked, 10)
        self._clock.observe(sent, row["now"].timestamp(), time.monotonic())
        return row

    async def end(self, reason: str) -> list[str]:
        """End the life in good order; return the queues in which runs became free."""
        if not self.worker_id:
            return []
        return await self._store.end_worker(self.worker_id, reason)

    async def _connected(self, raw: Any) -> None:
        if self._session_lock:
            await raw.add_listener(channel(self._schema, "wake"), self._heard)
            if self.worker_id:
                await Store(raw, self._schema).hold_session_lock(self.worker_id, self._class or 0)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._on_notify(payload)


def identify(settings: WorkerSettings, registry: Registry) -> Identity:
    """Return who a worker of this process is."""
    lanes = registry.lanes
    queues = sorted(settings.queues)
    host = socket.gethostname()
    return Identity(settings.name, host, os.getpid(), queues, lanes, settings.concurrency)

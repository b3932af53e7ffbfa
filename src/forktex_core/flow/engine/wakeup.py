# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Wake-ups: notifications that go out after commits, coalesced, never within anybody's transaction.

A notification only saves time. Whoever misses one finds the same thing by polling; so sending is
best effort, one statement at a time per process, with all that gathered meanwhile in the next one.
"""

import asyncio
import hashlib
import logging
from typing import Any
from uuid import UUID

_logger = logging.getLogger("forktex_core.flow.wakeup")
_MAX_CHANNEL = 63
_IDS_PER_MESSAGE = 200


def channel(schema: str, purpose: str) -> str:
    """Return the name of a schema's channel, within Postgres' limit for names."""
    name = f"{schema}.{purpose}"
    if len(name.encode()) <= _MAX_CHANNEL:
        return name
    return f"flow.{hashlib.sha256(schema.encode()).hexdigest()[:32]}.{purpose}"


class Notifier:
    """Sends wake-ups of one process.

    Channel ``wake``: ``w<queue>`` (work is due there), ``s<worker id>:<run id>`` (a claimed run got
    a signal) and ``r<worker id>`` (a run was taken from that worker). Channel ``done``: ids of runs
    that ended, separated by commas.
    """

    def __init__(self, store: Any, schema: str) -> None:
        self._store = store
        self._wake = channel(schema, "wake")
        self._done = channel(schema, "done")
        self._messages: dict[tuple[str, str], None] = {}
        self._ended: list[UUID] = []
        self._sending: asyncio.Task[None] | None = None

    def work(self, queue: str) -> None:
        """Say that a run is due in a queue."""
        self._messages[(self._wake, f"w{queue}"[:4000])] = None
        self._start()

    def signalled(self, worker: int, run_id: UUID) -> None:
        """Say that a claimed run got a signal."""
        self._messages[(self._wake, f"s{worker}:{run_id}")] = None
        self._start()

    def revoked(self, worker: int) -> None:
        """Say that a run was taken from a worker."""
        self._messages[(self._wake, f"r{worker}")] = None
        self._start()

    def done(self, runs: list[UUID]) -> None:
        """Say that runs ended."""
        self._ended.extend(runs)
        self._start()

    async def flush(self) -> None:
        """Wait until all that was said is sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    def _start(self) -> None:
        if self._sending is not None:
            return
        # Eagerly: the first message is on its way before the caller goes on.
        task = asyncio.Task(self._send(), loop=asyncio.get_running_loop(), eager_start=True)
        self._sending = None if task.done() else task

    async def _send(self) -> None:
        try:
            while self._messages or self._ended:
                batch, self._messages = list(self._messages), {}
                ended, self._ended = self._ended, []
                batch.extend(
                    (self._done, ",".join(map(str, ended[start : start + _IDS_PER_MESSAGE])))
                    for start in range(0, len(ended), _IDS_PER_MESSAGE)
                )
                await self._store.notify(batch)
        except Exception as error:  # noqa: BLE001 - polling finds what this would have told
            _logger.debug("wake-ups not sent: %s", error)
        finally:
            self._sending = None

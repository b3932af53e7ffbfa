# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Live events of a run.

Protocol. A stream looks at one row (how the run stands, how long its journal is) and reads the
timeline anew only when that row changed; what it has not told yet, it tells. It looks again when a
notification says that something happened to the run, and after ``poll`` seconds in any case: a
notification that is lost, and every step (workers notify nobody of steps: that would cost each
flush a statement), is found by looking. It ends with the event ``ended``.

All streams of a Flow share one listening connection, opened by the first and closed with the last.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from forktex_core.flow.engine.wakeup import channel
from forktex_core.flow.errors import RunNotFoundError
from forktex_core.flow.inspect.timeline import Event, Timeline
from forktex_core.flow.store.connection import Link
from forktex_core.flow.store.inspection import InspectionStore

_logger = logging.getLogger("forktex_core.flow.stream")
_KEEP_UP = 1.0


class Streams:
    """Hears what a schema's processes notify each other of, for all streams of a Flow.

    Args:
        schema: the schema of the tables.
        link: makes the connection to listen on.
        listen: whether that is a session, which hears notifications.
    """

    def __init__(self, schema: str, link: Callable[[str], Link], *, listen: bool) -> None:
        self._channels = [channel(schema, purpose) for purpose in ("done", "wake")]
        self._link, self._listens = link("streams"), listen
        self._link.on_connect = self._listen
        self._told: dict[UUID, list[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @contextmanager
    def following(self, run_id: UUID) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something may have happened to a run."""
        told = asyncio.Event()
        self._told.setdefault(run_id, []).append(told)
        if self._task is None and self._listens:
            self._task = asyncio.create_task(self._keep(), name="flow streams")
        try:
            yield told
        finally:
            self._told[run_id].remove(told)
            if not self._told[run_id]:
                del self._told[run_id]
            if not self._told and self._task is not None:
                self._task.cancel()
                self._task = None
                self._closing = asyncio.create_task(self._link.close())

    def happened(self, runs: list[UUID]) -> None:
        """Take note that something happened to runs."""
        for run_id in runs:
            for told in self._told.get(run_id, ()):
                told.set()

    async def close(self) -> None:
        """Stop listening; safe to repeat."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)
        await self._link.close()

    async def _keep(self) -> None:
        while True:
            try:
                await self._link.fetch("SELECT 1")  # connects; a lost connection is noticed
            except Exception as error:  # noqa: BLE001 - looking goes on without notifications
                _logger.debug("not listening for streams: %s", error)
            await asyncio.sleep(_KEEP_UP)

    async def _listen(self, raw: Any) -> None:
        for name in self._channels:
            await raw.add_listener(name, self._heard)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        if payload[:1] == "s":  # s<worker>:<run>: a signal came
            payload = payload.partition(":")[2]
        for text in payload.split(","):
            with contextlib.suppress(ValueError):  # anything else is no run's id
                self.happened([UUID(text)])


async def stream(
    store: InspectionStore,
    streams: Streams,
    run_id: UUID,
    poll: float,
    timeline: Callable[[], Awaitable[Timeline]],
) -> AsyncIterator[Event]:
    """Yield the events of a run as they happen, until it has ended."""
    seen: set[tuple[Any, ...]] = set()
    before = None
    with streams.following(run_id) as told:
        while True:
            told.clear()
            pulse = await store.pulse(run_id)
            if pulse is None:
                raise RunNotFoundError(run_id)
            if tuple(pulse) != before:
                before = tuple(pulse)
                found = await timeline()
                for event in fresh(found, seen):
                    yield event
                if found.run.finished_at is not None:
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), poll)


def fresh(timeline: Timeline, seen: set[tuple[Any, ...]]) -> list[Event]:
    """Return the events that were not told yet, and take note of them. A claim is told when it
    begins, a step again when another attempt of it is recorded.
    """
    found = []
    for event in timeline.events:
        mark: tuple[Any, ...] = (
            timeline.run.generation, event.kind, event.name, event.key, event.claim,
            len(event.attempts), event.kind in ("waiting", "paused") and event.at,
        )  # fmt: skip
        if event.kind == "signal":  # "signal 3, taken": it is told once, whatever becomes of it
            mark = (event.kind, event.name, event.detail.partition(",")[0])
        if mark not in seen:
            seen.add(mark)
            found.append(event)
    return found

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker's sign of life, from a thread of its own.

A key per worker and queue, renewed five times in the time that it lasts. It is a thread, with a
loop and connections of
its own, because a job that keeps the worker's loop busy (a computation, a blocking call) is no
reason to hand its jobs to
others: long jobs are never doubled while their worker lives. When the worker's loop has not moved
for
``wedged_after`` seconds the thread falls silent, so that a worker which hangs for ever is given up
after all.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from forktex_core.queue import scripts
from forktex_core.queue.link import Link, Wire

log = logging.getLogger("forktex_core.queue")

BEATS = 5  # in the time that a sign of life lasts


class Pulse(NamedTuple):
    """The sign of life on one queue: ``describe`` is what others may know of the worker,
    ``given_up`` is told when it was
    unknown (taken for dead before), both called from the thread."""

    link: Link
    lasts: float
    describe: Callable[[], dict[str, Any]]
    given_up: Callable[[], None]


class Heartbeat:
    """Beats for ``worker`` until it is closed; ``last_moved``: when the worker's loop moved
    last, monotonic."""

    def __init__(
        self,
        worker: str,
        pulses: Sequence[Pulse],
        last_moved: Callable[[], float],
        wedged_after: float,
    ) -> None:
        self._worker, self._pulses = worker, pulses
        self._last_moved, self._wedged_after = last_moved, wedged_after
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._main, name=f"{worker} heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def close(self) -> None:
        """Fall silent."""
        self._closed = True
        if self._loop is not None and self._end is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end.set)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for pulse in self._pulses:
                group.create_task(self._beat(pulse, self._end))

    async def _beat(self, pulse: Pulse, end: asyncio.Event) -> None:
        async with pulse.link.wire() as wire:
            while not (self._closed or end.is_set()):
                if time.monotonic() - self._last_moved() < self._wedged_after:
                    await self._once(wire, pulse)
                await asyncio.wait([asyncio.ensure_future(end.wait())], timeout=pulse.lasts / BEATS)

    async def _once(self, wire: Wire, pulse: Pulse) -> None:
        try:
            if await wire.ask(sign(pulse.link.root, self._worker, pulse.describe(), pulse.lasts)):
                pulse.given_up()
        except Exception as error:  # noqa: BLE001 - silence would cost a living worker its jobs
            log.warning(
                "worker %s: no sign of life on %s: %r", self._worker, pulse.link.name, error
            )


def sign(root: str, worker: str, about: dict[str, Any], lasts: float) -> scripts.Command:
    """The command of one sign of life."""
    return scripts.call("join", root, worker, json.dumps(about), round(lasts * 1000))

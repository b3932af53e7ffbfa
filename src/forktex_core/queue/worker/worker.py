# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The worker: its queues, its heartbeat, its beginning and its end."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forktex_core.queue.errors import ConfigurationError, QueueError
from forktex_core.queue.link import TRANSIENT
from forktex_core.queue.worker.consumer import Consumer
from forktex_core.queue.worker.heartbeat import Heartbeat, Pulse
from forktex_core.queue.worker.shares import Slots

if TYPE_CHECKING:
    from forktex_core.queue.queue import Hook, Queue

log = logging.getLogger("forktex_core.queue")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MOVES = 1.0  # seconds between two proofs that the loop moves
RELAYS = 1.0  # seconds between two looks at the outbox


class Worker:
    """Runs jobs of ``queues`` (each with its weight while all have work), ``concurrency`` at once.

    ``grace``: seconds that running jobs get after SIGTERM or SIGINT (a second signal: none); what
    is left is given back.
    ``burst``: end when nothing is left to take. ``signals``: whether to handle them (only ever in
    the main thread).
    ``wedged_after``: seconds of a blocked event loop after which the worker counts as dead.
    ``name``: unique, or None."""

    def __init__(
        self,
        queues: Mapping["Queue", float],
        *,
        concurrency: int = 100,
        grace: float = 25.0,
        burst: bool = False,
        signals: bool = True,
        wedged_after: float = 60.0,
        name: str | None = None,
    ) -> None:
        if not queues or not min(queues.values()) > 0:
            raise ConfigurationError("a worker needs queues, with weights above 0")
        if concurrency < 1 or grace < 0 or wedged_after <= 0:
            raise ConfigurationError(
                f"a worker can't have concurrency={concurrency}, grace={grace}, "
                f"wedged_after={wedged_after}: give 1 or more, 0 or more, and above 0"
            )
        if len({queue.name for queue in queues}) < len(queues):
            raise ConfigurationError("two queues of a worker have the same name: give each its own")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._queues, self._concurrency, self._grace = dict(queues), concurrency, grace
        self._burst, self._signals, self._wedged_after = burst, signals, wedged_after
        self._stop = asyncio.Event()
        self._moved = time.monotonic()
        self._started = time.time()
        self._handlers: dict[signal.Signals, Any] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._consumers: list[Consumer] = []

    def stop(self) -> None:
        """Begin the graceful end; called again: don't wait for running jobs."""
        if self._stop.is_set():
            for consumer in self._consumers:
                consumer.hurry()
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the end has begun."""
        return self._stop.is_set()

    async def run(self) -> None:
        """Run until `stop` (or, in a burst, until nothing is left)."""
        state: dict[str, Any] = {}
        self._listen_to_signals(True)
        try:
            await self._hooks("startup", state)
            await self._serve(state)
        finally:
            try:
                await self._hooks("shutdown", state)
            finally:
                self._listen_to_signals(False)
                if self._pool is not None:
                    self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, state: dict[str, Any]) -> None:
        slots = Slots(self._concurrency, {q.name: weight for q, weight in self._queues.items()})
        self._consumers = [
            Consumer(
                queue,
                self.name,
                slots,
                self._about,
                threads=self._threads,
                state=state,
                burst=self._burst,
            )
            for queue in self._queues
        ]
        heartbeat = self._heartbeat(asyncio.get_running_loop())
        readers = [asyncio.create_task(consumer.read()) for consumer in self._consumers]
        aside = [asyncio.create_task(consumer.watch.run()) for consumer in self._consumers]
        aside += [asyncio.create_task(self._move()), *self._relays()]
        heartbeat.start()
        try:
            await self._until_stopped(readers, aside)
        finally:
            await self._end(readers)
            for task in aside:
                task.cancel()
            await asyncio.wait(aside)
            await heartbeat.close()
            for consumer in self._consumers:
                await consumer.close()

    async def _until_stopped(
        self, readers: list[asyncio.Task[None]], aside: list[asyncio.Task[None]]
    ) -> None:
        """Wait for the end; a task that ends by itself has met a defect, which is raised."""
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop.wait())]
        if self._burst:
            ends.append(asyncio.create_task(self._until_drained()))
        try:
            done, _ = await asyncio.wait(
                [*ends, *readers, *aside], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            for task in ends:
                task.cancel()

    async def _until_drained(self) -> None:
        while not all(consumer.drained.is_set() for consumer in self._consumers):
            for consumer in self._consumers:
                await consumer.drained.wait()

    async def _end(self, readers: list[asyncio.Task[None]]) -> None:
        for consumer in self._consumers:
            with suppress(*TRANSIENT):
                await consumer.stop()
        _, late = await asyncio.wait(readers, timeout=2 * MOVES)
        for task in late:
            task.cancel()
        ends = await asyncio.gather(
            *(consumer.finish(self._grace) for consumer in self._consumers), return_exceptions=True
        )
        for consumer, end in zip(self._consumers, ends, strict=True):
            if isinstance(end, (*TRANSIENT, QueueError)):
                log.warning(
                    "worker %s could not take leave of %r: others take its jobs back when "
                    "its sign of life has expired (%r)",
                    self.name,
                    consumer.queue,
                    end,
                )
            elif isinstance(end, BaseException):
                raise end

    def _heartbeat(self, loop: asyncio.AbstractEventLoop) -> Heartbeat:
        def told(consumer: Consumer) -> Callable[[], None]:
            def tell() -> None:
                loop.call_soon_threadsafe(consumer.resync)

            return tell

        pulses = [
            Pulse(consumer.queue.new_link(), consumer.queue.dead_after, self._about, told(consumer))
            for consumer in self._consumers
        ]
        return Heartbeat(self.name, pulses, lambda: self._moved, self._wedged_after)

    def _about(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": round(self._started),
            "concurrency": self._concurrency,
            "queues": sorted(queue.name for queue in self._queues),
        }

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, "forktex-queue")
        return self._pool

    async def _move(self) -> None:
        while True:
            self._moved = time.monotonic()
            await asyncio.sleep(MOVES)

    def _relays(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(self._relay(queue))
            for queue in self._queues
            if queue.outbox is not None
        ]

    async def _relay(self, queue: "Queue") -> None:
        from forktex_core.queue.outbox import relay_forever

        await relay_forever(queue, RELAYS)

    async def _hooks(self, which: str, state: dict[str, Any]) -> None:
        for queue in self._queues:
            hooks: list[Hook] = getattr(queue, which)
            for hook in hooks if which == "startup" else reversed(hooks):
                done = hook(state)
                if done is not None:
                    await done

    def _listen_to_signals(self, listen: bool) -> None:
        if not self._signals or threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if listen:
                self._handlers[number] = signal.getsignal(number)
                loop.add_signal_handler(number, self.stop)
            elif loop.remove_signal_handler(number) and self._handlers[number] is not None:
                signal.signal(number, self._handlers[number])  # asyncio.run has one of its own

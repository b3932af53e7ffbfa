# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a worker looks after besides running jobs: what is due, dead workers, plans, notices.

One connection blocks on the queue's notices; another does the chores when the next thing is due, by
the server's clock: a delayed job, a cron tick, or at the latest a second. A new job that is due
before all others sends a notice, so delays are exact to the millisecond without polling. The time
is waited for here, not in the server: its timer ends a blocking read up to 100 ms late (a tenth of
a second is its own tick) when nothing else wakes it. Every worker does the chores; each is one
script, and whoever comes second finds it done.

Judging others dead needs more than an absent sign of life: after a restart of the server all signs
have expired.
So a worker judges only when it has seen the server without a break for longer than a sign lasts:
the living have
given theirs by then.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ResponseError

from forktex_core.queue import scripts
from forktex_core.queue.errors import QueueError
from forktex_core.queue.link import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from forktex_core.queue.cron import Cron
    from forktex_core.queue.queue import Queue

log = logging.getLogger("forktex_core.queue")

LONGEST = 1.0  # seconds between two rounds
STRANGERS = 60.0  # seconds between two searches for consumers that nobody knows
PAUSE = 0.2  # seconds before a broken connection is tried again


class Watched(Protocol):
    """What a watch tells."""

    def set_paused(self, paused: bool) -> None:
        """The queue was paused or resumed."""
        ...

    def cancel(self, job_id: str) -> None:
        """A job is to be cancelled if it runs here."""
        ...

    def resync(self) -> None:
        """Notices may have been missed."""
        ...


class Watch:
    """The chores of one worker on one queue."""

    def __init__(self, queue: "Queue", worker: str, watched: Watched) -> None:
        self._queue, self._worker, self._watched = queue, worker, watched
        self._root = queue.link.root
        self._wire, self._ears = queue.link.wire(), queue.link.wire()
        self._listening: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._place: bytes | None = None
        self._offset = 0.0
        self._seen_since = self._seen_last = time.monotonic()
        self._strangers_at = 0.0
        self._ticks: list[tuple[datetime, Cron]] | None = None

    def now(self) -> float:
        """The server's clock, seconds since the epoch."""
        return time.time() + self._offset

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await self._guarded_round()
        finally:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.wait([self._listening])
            await self._wire.close()
            await self._ears.close()

    async def _guarded_round(self) -> None:
        try:
            await self._round()
        except (*TRANSIENT, ResponseError, QueueError) as error:
            log.warning("worker %s: watch of %s interrupted: %r", self._worker, self._root, error)
            await asyncio.sleep(PAUSE)
            self._seen_since = time.monotonic()
            self._watched.resync()

    async def _round(self) -> None:
        self._news.clear()
        time_ms, paused, due, more, last = await self._wire.ask(self._tick())
        self._offset = time_ms / 1000 - time.time()
        self._watched.set_paused(bool(paused))
        if self._place is None:
            self._place = last
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        planned = await self._fire(datetime.fromtimestamp(time_ms / 1000, UTC))
        if more:
            return
        waits = [LONGEST * 1000, *planned] + ([due - time_ms] if due >= 0 else [])
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), max(0.001, min(waits) / 1000))

    def _tick(self) -> scripts.Command:
        now = time.monotonic()
        lasts = self._queue.dead_after
        if now - self._seen_last > max(lasts / 2, 2 * LONGEST):
            self._seen_since = now
        self._seen_last = now
        judges = now - self._seen_since > lasts
        strangers = judges and now > self._strangers_at
        if strangers:
            self._strangers_at = now + STRANGERS
        queue = self._queue
        return scripts.call(
            "tick",
            self._root,
            self._worker,
            int(judges),
            queue.max_deliveries,
            queue.dead_letters,
            round(lasts / 5 * 1000),
            int(strangers),
        )

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (*TRANSIENT, ResponseError) as error:
                log.warning("worker %s: no notices of %s: %r", self._worker, self._root, error)
                await asyncio.sleep(PAUSE)
                self._watched.resync()

    async def _hear(self) -> None:
        block = round(LONGEST * 1000)
        words = ("XREAD", "BLOCK", block, "STREAMS", f"{self._root}:k", self._place or "0-0")
        (reply,) = await self._ears.send(words, wait=LONGEST)
        for entry, (what, value) in reply[0][1] if reply else []:
            self._place = entry
            self._heard(what, value.decode())

    def _heard(self, what: bytes, value: str) -> None:
        notices: dict[bytes, Callable[[], Any]] = {
            b"cancel": lambda: self._watched.cancel(value),
            b"pause": lambda: self._watched.set_paused(True),
            b"resume": lambda: self._watched.set_paused(False),
            b"due": self._news.set,
        }
        notices.get(what, lambda: None)()

    async def _fire(self, now: datetime) -> list[float]:
        """Enqueue the cron jobs whose tick has come; the ms until each next one."""
        if self._ticks is None:
            firsts = [(cron.first(now), cron) for cron in self._queue.crons]
            self._ticks = [(tick, cron) for tick, cron in firsts if tick is not None]
        fired = [(tick, cron) for tick, cron in self._ticks if tick <= now]
        if fired:
            envelopes = [cron.envelope(tick) for tick, cron in fired]
            await self._queue.submitter.submit(envelopes)
            nexts = [(cron.after(max(tick, now)), cron) for tick, cron in fired]
            self._ticks = [entry for entry in self._ticks if entry not in fired]
            self._ticks += [(tick, cron) for tick, cron in nexts if tick is not None]
        return [(tick - now).total_seconds() * 1000 for tick, _ in self._ticks]

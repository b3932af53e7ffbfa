# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The chores of the leader.

A term begins when a worker's tick wins the leader's advisory lock and counts the term up. Each
chore is one statement that locks the leader's row and checks the term, so a leader that was deposed
without noticing changes nothing.

The leader's ticks also say when there is something to do: at once (workers that are gone, say), or
at a moment to come (the next deadline or schedule). So an idle leader asks nothing else. What is
due is done by one statement: dead workers' runs, deadlines, schedules' turns. What that finds, and
what takes longer, is done by chores of their own (timetable.py, pruning.py).

Right after an election, and after a start of the server, the living may not have taken their
session locks again: absence of a lock counts only after a grace. But a worker that came to lead
because its predecessor's lock was free knows of that one already, and ends its life at once. A
heartbeat older than the lease counts always.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.engine.pruning import Prune
from forktex_core.flow.engine.pulse import lock_class
from forktex_core.flow.engine.timetable import FireSchedules
from forktex_core.flow.store.store import Store

_logger = logging.getLogger("forktex_core.flow.leader")
_GRACE = 0.4
_AHEAD = 2.0  # seconds: what is due later is told by a later tick
_GRACE_AFTER_START = timedelta(seconds=5)


class Leader:
    """See the top of the file.

    Args:
        store: queries on the pool.
        schema: the schema of the tables.
        session_lock: whether workers' session locks tell of their lives.
        lease: seconds after which a silent worker is given up in any case.
        on_freed: called with the queues in which runs became free.
        on_told: called with workers and the runs of theirs that got a signal.
        on_finished: called with runs that ended without a worker.
        fire: fires schedules.
        prune: prunes finished runs.
        look_again: called after seconds, for another tick.
        outage: told of what fails.
    """

    def __init__(
        self,
        store: Store,
        schema: str,
        *,
        session_lock: bool,
        lease: float,
        on_freed: Callable[[list[str]], None],
        on_told: Callable[[list[int], list[UUID]], None],
        on_finished: Callable[[list[UUID]], None],
        fire: FireSchedules,
        prune: Prune,
        look_again: Callable[[float], None],
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._store = store
        self._class = lock_class(schema) if session_lock else None
        self.lease, self.grace = timedelta(seconds=lease), _GRACE_AFTER_START
        self._on_freed, self._on_told, self._on_finished = on_freed, on_told, on_finished
        self._fire, self._prune = fire, prune
        self._term: int | None = None
        self._worker = 0
        self._since = 0.0
        self._predecessor: int | None = None
        self._look_again = look_again
        self._due = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def term(self) -> int | None:
        """The term in office, None when another worker leads."""
        return self._term

    @property
    def trust_locks(self) -> bool:
        """Whether it has led for long enough that a worker without its session lock is gone."""
        in_office = self._term is not None and self._class is not None
        return in_office and time.monotonic() - self._since >= _GRACE

    def take_office(self, worker: int, term: int | None, predecessor: int | None = None) -> None:
        """Take note of what the tick said: the term of this worker, or None; and whose session's
        end let it begin.
        """
        if term is None:
            self._term = None
            self._due.clear()
            self._cancel_alarm()
        elif (worker, term) != (self._worker, self._term):
            _logger.info("worker %s leads, term %s", worker, term)
            self._worker, self._term, self._since = worker, term, time.monotonic()
            self._predecessor = predecessor
            self._due.set()
            self._look_again(_GRACE + 0.01)

    def next_chore(self, delay: float | None) -> None:
        """Take note of what the tick said: in how many seconds there is something to do."""
        self._cancel_alarm()
        if self._term is None or delay is None:
            return
        if delay <= 0:
            self._due.set()
        elif delay < _AHEAD:
            self._alarm = asyncio.get_running_loop().call_later(delay, self._due.set)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def run(self) -> None:
        """Do the chores while in office, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._outage.wait_out("the leader's chores", self._chores)

    async def prune(self) -> None:
        """Begin a round of pruning, when it is time."""
        if self._term is not None:
            await self._prune.perform(self._worker, self._term)

    async def _chores(self) -> None:
        worker, term = self._worker, self._term
        if term is None:
            return
        done = await self._store.do_chores(
            worker,
            term,
            self._class,
            trust_locks=self.trust_locks,
            predecessor=self._predecessor,
            lease=self.lease,
            grace=self.grace,
        )
        self._predecessor = None
        if not done["in_office"]:
            self.take_office(0, None)
            return
        if done["ended"]:
            _logger.warning("workers %s are gone, their runs go on elsewhere", done["ended"])
        if done["queues"]:
            self._on_freed(sorted(set(done["queues"])))
        if done["told_runs"]:
            self._on_told(done["told_workers"], done["told_runs"])
        if done["finished"]:
            self._on_finished(done["finished"])
        if done["schedules_due"]:
            await self._fire.perform(worker, term)

    async def resign(self) -> None:
        """Leave the office in good order."""
        await self._prune.stop()
        if self._term is not None:
            worker, self._term = self._worker, None
            self._due.clear()
            self._cancel_alarm()
            await self._store.resign(worker)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The chores of the leader.

A term begins when a worker's tick wins the leader's advisory lock and counts the term up. Each
chore is one statement that locks the leader's row and checks the term, so a leader that was deposed
without noticing changes nothing.

The first of them is always the same statement: dead workers' runs, deadlines, schedules' turns.
What it finds to be due, and what takes longer, is done by chores of their own (timetable.py,
pruning.py).

Right after an election, and after a start of the server, the living may not have taken their
session locks again: absence of a lock counts only after a grace. A heartbeat older than the lease
counts always.
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
_INTERVAL = 0.55
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
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._store = store
        self._class = lock_class(schema) if session_lock else None
        self._lease = timedelta(seconds=lease)
        self._on_freed, self._on_told, self._on_finished = on_freed, on_told, on_finished
        self._fire, self._prune = fire, prune
        self._term: int | None = None
        self._worker = 0
        self._since = 0.0
        self._elected = asyncio.Event()

    @property
    def term(self) -> int | None:
        """The term in office, None when another worker leads."""
        return self._term

    def take_office(self, worker: int, term: int | None) -> None:
        """Take note of what the tick said: the term of this worker, or None."""
        if term is None:
            self._term = None
            self._elected.clear()
        elif (worker, term) != (self._worker, self._term):
            _logger.info("worker %s leads, term %s", worker, term)
            self._worker, self._term, self._since = worker, term, time.monotonic()
            self._elected.set()

    async def run(self) -> None:
        """Do the chores while in office, for ever."""
        while True:
            await self._elected.wait()
            await self._outage.wait_out("the leader's chores", self._chores)
            await asyncio.sleep(
                _INTERVAL if time.monotonic() - self._since > 2 * _INTERVAL else _GRACE / 2
            )

    async def _chores(self) -> None:
        worker, term = self._worker, self._term
        if term is None:
            return
        done = await self._store.do_chores(
            worker,
            term,
            self._class,
            trust_locks=self._class is not None and time.monotonic() - self._since >= _GRACE,
            lease=self._lease,
            grace=_GRACE_AFTER_START,
        )
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
        await self._prune.perform(worker, term)

    async def resign(self) -> None:
        """Leave the office in good order."""
        await self._prune.stop()
        if self._term is not None:
            worker, self._term = self._worker, None
            self._elected.clear()
            await self._store.resign(worker)

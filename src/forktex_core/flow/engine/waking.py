# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waking parked runs that this worker holds in memory, without a look at the queue.

Protocol. Whoever signals a parked run tells the worker that parked it last (``warm_by``). If the
run is still in memory here, one statement claims just that run, provided that nobody claimed it
since (its claim number is the one of the memory). It brings the new signals; and when the run waits
for one thing only, and a signal fits, the statement has journaled that it was taken, too: one
commit between the signal and the body's going on.

Everything else goes the usual way: what isn't in memory any more, what has a key or a queue with
limits, and what there is no room for, is left to the claims, here or in other workers. A call that
is lost costs what a lost notification costs: other workers find the run with their next tick.

A call may come before the answer of the very statement that parked the run. It is kept until then.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from forktex_core.flow.store.rows import Claimed
from forktex_core.flow.store.store import Store

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution

_logger = logging.getLogger("forktex_core.flow.worker")


class Waking:
    """See the top of the file.

    Args:
        store: queries on the link of the claims.
        claiming: held while a statement of that link is under way.
        worker_id: returns the id of the worker's present life.
        active: the runs that the worker has claimed.
        warm: the parked runs in its memory.
        room: returns how many runs more it may hold.
        on_awake: called with each run that was claimed.
        on_left: called when something is left to the claims, with whether here is room for it.
        on_unsure: called when nobody knows what a statement did.
    """

    def __init__(
        self,
        store: Store,
        claiming: asyncio.Lock,
        *,
        worker_id: Callable[[], int],
        active: dict[UUID, "Execution"],
        warm: OrderedDict[UUID, "Execution"],
        room: Callable[[], int],
        on_awake: Callable[[Claimed], None],
        on_left: Callable[[bool], None],
        on_unsure: Callable[[Exception], None],
    ) -> None:
        self._store, self._claiming, self._worker_id = store, claiming, worker_id
        self._active, self._warm, self._room = active, warm, room
        self._on_awake, self._on_left, self._on_unsure = on_awake, on_left, on_unsure
        self._called: dict[UUID, None] = {}
        self._calls = asyncio.Event()

    def call(self, run_id: UUID) -> None:
        """Wake a run that is parked, or about to be."""
        self._called[run_id] = None
        self._calls.set()

    def parked(self, run_id: UUID) -> None:
        """Take note that a run is parked for sure: a call for it may have come before."""
        if run_id in self._called:
            self._calls.set()

    def forget(self, run_id: UUID) -> None:
        """Take note that a run did not park."""
        self._called.pop(run_id, None)

    async def run(self) -> None:
        """Wake for ever."""
        while True:
            await self._calls.wait()
            async with self._claiming:
                self._calls.clear()
                await self._wake(self._take())

    def _take(self) -> list[UUID]:
        """Return what can be woken now; what is about to park stays, the rest is for the claims."""
        ready: list[UUID] = []
        for run_id in list(self._called):
            if run_id in self._active:
                continue  # parked() follows, or forget()
            del self._called[run_id]
            if run_id in self._warm and len(ready) < self._room():
                ready.append(run_id)
            else:
                self._on_left(self._room() > len(ready))
        return ready

    async def _wake(self, runs: list[UUID]) -> None:
        if not runs:
            return
        worker = self._worker_id()
        taken = {run_id: self._warm.pop(run_id) for run_id in runs}
        try:
            woken = await self._store.wake_runs(
                worker, [(r, e.claim, e.seen, *e.only_wait) for r, e in taken.items()]
            )
        except Exception as error:  # noqa: BLE001 - the claims find the runs, or the life's end does
            self._on_unsure(error)
            return
        finally:
            if worker == self._worker_id():
                self._warm.update(taken)
            else:
                for execution in taken.values():
                    execution.seal()
        if worker != self._worker_id():
            return
        for run in woken:
            self._on_awake(run)
        if len(woken) < len(taken):
            self._on_left(True)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Ends of claims: runs that finish, park or are released, in batches beside the journal's.

An execution asks for an end only when nothing of it is unflushed, so whatever is written here comes
after its entries. A batch whose connection died is sent again: a finish that took effect the first
time is recognised by the run's claim and status; a park that took effect is reported lost, which
costs nothing but the warm copy.

A park tells how much of its inbox the run had seen when it *asked* to park: what came in since then
makes the park stale, also if the execution has been told of it meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.engine.outcome import CONTINUED, Outcome, cancellation, error_text
from forktex_core.flow.errors import PayloadError
from forktex_core.flow.store.connection import is_refusal
from forktex_core.flow.store.effects import Woken
from forktex_core.flow.store.store import Store

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution

_logger = logging.getLogger("forktex_core.flow.endings")

type Finish = tuple["Execution", Outcome]
type Park = tuple["Execution", int, float | None, str]


class Endings:
    """See the top of the file.

    Args:
        store: queries on a link of its own.
        worker_id: returns the id of the worker's present life.
        on_finished: called with executions that ended and how, and with those who are to be told.
        on_continued: called with executions whose run begins its next generation.
        on_parked: called with an execution and what became of its park: parked, stale or lost.
        on_released: called with an execution whose claim was given back.
        on_lost: called with an execution whose claim turned out to be lost.
        outage: told of what fails.
    """

    def __init__(
        self,
        store: Store,
        worker_id: Callable[[], int],
        *,
        on_finished: Callable[[list[Finish], list[Woken]], None],
        on_continued: Callable[[list["Execution"]], None],
        on_parked: Callable[["Execution", str], None],
        on_released: Callable[["Execution"], None],
        on_lost: Callable[["Execution"], None],
        outage: Outage,
    ) -> None:
        self._store = store
        self._outage = outage
        self._worker_id = worker_id
        self._on_finished, self._on_parked = on_finished, on_parked
        self._on_continued = on_continued
        self._on_released, self._on_lost = on_released, on_lost
        self._finishes: list[Finish] = []
        self._parks: list[Park] = []
        self._releases: list[Execution] = []
        self._filled = asyncio.Event()

    def finish(self, item: Finish) -> None:
        """End a run."""
        self._finishes.append(item)
        self._filled.set()

    def park(self, item: Park) -> None:
        """Let a run wait."""
        self._parks.append(item)
        self._filled.set()

    def release(self, execution: "Execution") -> None:
        """Give a run to others."""
        self._releases.append(execution)
        self._filled.set()

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            finishes, self._finishes = self._finishes, []
            parks, self._parks = self._parks, []
            releases, self._releases = self._releases, []
            # In id order, as every statement that locks many runs.
            live = sorted(
                (f for f in finishes if not f[0].sealed), key=lambda finish: finish[0].run_id
            )
            if ended := [f for f in live if f[1].status != CONTINUED]:
                await self._finish(ended)
            if going_on := [f for f in live if f[1].status == CONTINUED]:
                await self._continue(going_on)
            if waiting := [p for p in parks if not p[0].sealed]:
                await self._park(waiting)
            if freed := [e for e in releases if not e.sealed]:
                await self._release(freed)

    async def _finish(self, batch: list[Finish]) -> None:
        worker = self._worker_id()
        rows = [(e.run_id, e.claim, r.status, r.output, r.error) for e, r in batch]
        closing = [e.run_id for e, _ in batch if e.has_children or e.generation]
        payloads = (
            [cancellation(kind, "its parent has ended") for kind in ("cancel", "terminate")]
            if closing
            else []
        )
        with self._outage.patience(f"the end of {len(batch)} runs") as patience:
            while True:
                try:
                    found = await self._store.finish_runs(worker, rows, closing, *payloads)
                    done: set[object] = {row.run_id for row in found if row.part == "e"}
                    if any(e.run_id not in done for e, _ in batch):
                        done |= await self._already(batch)
                    break
                except Exception as error:  # noqa: BLE001 - every failure of the connection is waited out
                    if is_refusal(error):
                        await self._halve(batch, error)
                        return
                    await patience.pause(error)
                    if worker != self._worker_id():
                        return
        for execution, _ in batch:
            if execution.run_id not in done:
                self._on_lost(execution)
        ours = {e.run_id for e, _ in batch}
        self._on_finished(
            [finish for finish in batch if finish[0].run_id in done],
            [row for row in found if row.run_id not in ours],
        )

    async def _already(self, batch: list[Finish]) -> set[object]:
        wanted = {e.run_id: (e.claim, result.status) for e, result in batch}
        rows = await self._store.claims_of(list(wanted))
        return {row["id"] for row in rows if wanted[row["id"]] == (row["claim"], row["status"])}

    async def _halve(self, batch: list[Finish], error: BaseException) -> None:
        if len(batch) > 1:
            await self._finish(batch[: len(batch) // 2])
            await self._finish(batch[len(batch) // 2 :])
            return
        execution, result = batch[0]
        if result.status == "succeeded":
            refusal = PayloadError(f"Postgres refused the output of the run: {error}")
            await self._finish([(execution, Outcome("failed", None, error_text(refusal)))])
        else:
            _logger.error("run %s can't be ended: %s", execution.run_id, error)
            self._on_lost(execution)

    async def _continue(self, batch: list[Finish]) -> None:
        worker = self._worker_id()
        rows = [(e.run_id, e.claim, result.output or "null") for e, result in batch]
        with self._outage.patience(f"the continuation of {len(batch)} runs") as patience:
            while True:
                try:
                    queues = await self._store.continue_runs(worker, rows)
                    break
                except Exception as error:  # noqa: BLE001 - every failure of the connection is waited out
                    if is_refusal(error):
                        refusal = error_text(
                            PayloadError(f"Postgres refused the next input: {error}")
                        )
                        await self._finish(
                            [(e, Outcome("failed", None, refusal)) for e, _ in batch]
                        )
                        return
                    await patience.pause(error)
                    if worker != self._worker_id():
                        return
        # What is missing took effect before its answer was lost, or was taken from this worker.
        for execution, _ in batch:
            if execution.run_id not in queues:
                self._on_lost(execution)
        self._on_continued([e for e, _ in batch if e.run_id in queues])

    async def _park(self, batch: list[Park]) -> None:
        worker = self._worker_id()
        rows = [(e.run_id, e.claim, seen, due, what) for e, seen, due, what in batch]
        with self._outage.patience(f"the parking of {len(batch)} runs") as patience:
            while True:
                try:
                    outcomes = await self._store.park_runs(worker, rows)
                    break
                except Exception as error:  # noqa: BLE001 - every failure of the connection is waited out
                    await patience.pause(error)
                    if worker != self._worker_id():
                        return
        for execution, *_ in batch:
            self._on_parked(execution, outcomes.get(execution.run_id, "lost"))

    async def _release(self, batch: list["Execution"]) -> None:
        try:
            await self._store.release_runs(self._worker_id(), [(e.run_id, e.claim) for e in batch])
        except Exception as error:  # noqa: BLE001 - the end of the worker's life frees them as well
            _logger.warning("%d runs were not released: %s", len(batch), error)
        for execution in batch:
            self._on_released(execution)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waiting for runs to end: by what ended in this process, by notifications, and by asking once in a
while.

Who waits for a run that a worker of this process ends is told what that worker wrote, as soon as it
is committed, without a question to the database.

Protocol. One statement is under way at a time; it asks about every run that somebody began to wait
for, or that is said to have ended, since the last one. So a thousand callers of result() cost a few
statements. A run that nobody has asked about yet is *unsure*: the statement says when there is none
of that id, and an error of that first statement is its caller's. Afterwards errors are waited out:
the watch asks again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.outcome import Outcome
from forktex_core.flow.engine.wakeup import channel
from forktex_core.flow.errors import (
    PayloadError,
    RunCancelled,
    RunFailed,
    RunHalted,
    RunNotFoundError,
)
from forktex_core.flow.store.connection import Backoff, Link
from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Workflow

_logger = logging.getLogger("forktex_core.flow.results")
_ASK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended."""

    workflow: str
    version: int
    status: str
    output: str | None
    error: str | None

    @classmethod
    def of(cls, workflow: Workflow[Any, Any], result: Outcome) -> Self:
        """Return how a run of a workflow ended that ended here."""
        return cls(workflow.name, workflow.version, result.status, result.output, result.error)

    def unwrap(self, shape: Shape) -> Any:
        """Return the output, or raise the error."""
        if self.status == "succeeded":
            return shape.decode(self.output, f"the output of {self.workflow!r}")
        kind = {"cancelled": RunCancelled, "paused": RunHalted}.get(self.status, RunFailed)
        raise kind.restored(ANY.decode(self.error, "the error") or {})


class Results:
    """See the top of the file.

    Args:
        store: queries on the pool.
        schema: the schema of the tables.
        link: makes a connection of our own, to listen on.
        listen: whether that connection is a session, which hears notifications.
    """

    def __init__(
        self, store: Store, schema: str, link: Callable[[str], Link], *, listen: bool = True
    ) -> None:
        self._store = store
        self._channel = channel(schema, "done")
        self._link = link("results")
        if listen:
            self._link.on_connect = self._listen
        self._waiting: dict[UUID, list[asyncio.Future[RunEnd]]] = {}
        self._through: dict[UUID, Store] = {}
        self._unsure: set[UUID] = set()
        self._ended: set[UUID] = set()
        self._asking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def wait(self, run_id: UUID, timeout: float | None, store: Store | None = None) -> RunEnd:
        """Return how a run ended, as soon as it has. ``store``: through which it is asked about,
        for who has one of his own.
        """
        if store is not None and store.view.settings:
            self._through[run_id] = store
        future: asyncio.Future[RunEnd] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(future)
        self._unsure.add(run_id)
        try:
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch(), name="flow results")
            self._ask_soon()
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimeoutError(
                f"run {run_id} has not ended within {timeout:g} s; it goes on"
            ) from None
        finally:
            self._withdraw(run_id, future)

    def _withdraw(self, run_id: UUID, future: "asyncio.Future[RunEnd]") -> None:
        waiting = self._waiting.get(run_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(run_id, None)
            self._unsure.discard(run_id)
            self._through.pop(run_id, None)

    def known(self, ends: dict[UUID, RunEnd]) -> None:
        """Tell those who wait for runs that a worker of this process ended: the database would say
        the same.
        """
        for run_id in self._waiting.keys() & ends.keys():
            self._settle(run_id, ends[run_id])

    def ended_here(self, runs: list[UUID]) -> None:
        """Take note of runs that are said to have ended."""
        self._ended.update(run for run in runs if run in self._waiting)
        if self._ended:
            self._ask_soon()

    async def close(self) -> None:
        """Stop watching; safe to repeat."""
        tasks = [task for task in (self._watching, self._asking) if task is not None]
        self._watching = self._asking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close()

    async def _listen(self, raw: Any) -> None:
        await raw.add_listener(self._channel, self._heard)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self.ended_here([UUID(text) for text in payload.split(",")])

    async def _watch(self) -> None:
        """Keep listening, and ask about all once in a while: a lost notification costs a second."""
        backoff = Backoff()
        while True:
            try:
                await self._link.fetch("SELECT 1")  # connects; a lost connection is noticed
                backoff = Backoff()
            except Exception as error:  # noqa: BLE001 - asking goes on without notifications
                _logger.debug("not listening for ends of runs: %s", error)
                await backoff.pause()
            await asyncio.sleep(_ASK_EVERY)
            self.ended_here(list(self._waiting))

    def _ask_soon(self) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="flow results asking")

    async def _ask_all(self) -> None:
        """One statement at a time, about everything that gathered while the last one ran."""
        try:
            while self._ended or self._unsure:
                unsure, self._unsure = self._unsure, set()
                asked, self._ended = self._ended | unsure, set()
                for store, runs in self._by_store(asked):
                    await self._ask(store, runs, unsure)
        finally:
            self._asking = None

    def _by_store(self, asked: set[UUID]) -> list[tuple[Store, list[UUID]]]:
        """Return what is to be asked, one part for each setting of Postgres it takes."""
        parts: dict[Any, tuple[Store, list[UUID]]] = {}
        for run in asked:
            store = self._through.get(run, self._store)
            parts.setdefault(store.view.settings, (store, []))[1].append(run)
        return list(parts.values())

    async def _ask(self, store: Store, asked: list[UUID], unsure: set[UUID]) -> None:
        try:
            rows = await store.outcomes(asked, [run in unsure for run in asked])
        except Exception as error:  # noqa: BLE001 - who asked for the first time is told, the others are asked about again
            _logger.debug("ends of runs not read: %s", error)
            for run in unsure.intersection(asked):
                self._settle(run, error)
            return
        for row in rows:
            if row["status"] is None:
                self._settle(row["id"], RunNotFoundError(row["id"]))
            else:
                self._settle(row["id"], self._outcome(row))

    def _outcome(self, row: Any) -> RunEnd | PayloadError:
        try:
            output, error = self._store.decode(row["output"]), self._store.decode(row["error"])
        except PayloadError as fault:
            return fault
        return RunEnd(row["workflow"], row["version"], row["status"], output, error)

    def _settle(self, run_id: UUID, outcome: RunEnd | Exception) -> None:
        for future in self._waiting.pop(run_id, []):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Waiting for runs to end: by what ended in this process, by notifications, and by asking once in a
while.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from forktex_core.flow.codec import ANY, Shape
from forktex_core.flow.engine.wakeup import channel
from forktex_core.flow.errors import (
    PayloadError,
    RunCancelled,
    RunFailed,
    RunHalted,
    RunNotFoundError,
)
from forktex_core.flow.store.connection import Link
from forktex_core.flow.store.store import Store

_logger = logging.getLogger("forktex_core.flow.results")
_ASK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    workflow: str
    version: int
    status: str
    output: str | None
    error: str | None

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
        self._waiting: dict[UUID, list[asyncio.Future[Outcome]]] = {}
        self._news = asyncio.Event()
        self._ended: set[UUID] = set()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, run_id: UUID, timeout: float | None) -> Outcome:
        """Return how a run ended, as soon as it has."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(future)
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._watch(), name="flow results")
            await self._ask([run_id])
            if not future.done() and await self._store.run_status(run_id) is None:
                raise RunNotFoundError(run_id)
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimeoutError(
                f"run {run_id} has not ended within {timeout:g} s; it goes on"
            ) from None
        finally:
            waiting = self._waiting.get(run_id, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(run_id, None)

    def ended_here(self, runs: list[UUID]) -> None:
        """Take note of runs that a worker of this process ended."""
        self._ended.update(run for run in runs if run in self._waiting)
        if self._ended:
            self._news.set()

    async def close(self) -> None:
        """Stop watching; safe to repeat."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._link.close()

    async def _listen(self, raw: Any) -> None:
        await raw.add_listener(self._channel, self._heard)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self.ended_here([UUID(text) for text in payload.split(",")])

    async def _watch(self) -> None:
        while True:
            try:
                await self._link.fetch(
                    "SELECT 1"
                )  # connects, and keeps a lost connection from going unnoticed
                async with asyncio.timeout(_ASK_EVERY):
                    await self._news.wait()
            except TimeoutError:
                self._ended.update(self._waiting)
            except Exception as error:  # noqa: BLE001 - asking goes on without notifications
                _logger.debug("not listening for ends of runs: %s", error)
                self._ended.update(self._waiting)
                await asyncio.sleep(_ASK_EVERY)
            self._news.clear()
            asked, self._ended = list(self._ended), set()
            try:
                await self._ask(asked)
            except Exception as error:  # noqa: BLE001 - the next round asks again
                _logger.debug("ends of runs not read: %s", error)

    async def _ask(self, runs: list[UUID]) -> None:
        if not runs:
            return
        for row in await self._store.outcomes(runs):
            outcome, fault = self._outcome(row)
            for future in self._waiting.pop(row["id"], []):
                if future.done():
                    continue
                if outcome is None:
                    future.set_exception(fault or PayloadError("the outcome can't be read"))
                else:
                    future.set_result(outcome)

    def _outcome(self, row: Any) -> tuple[Outcome | None, PayloadError | None]:
        try:
            output, error = self._store.decode(row["output"]), self._store.decode(row["error"])
        except PayloadError as fault:
            return None, fault
        return Outcome(row["workflow"], row["version"], row["status"], output, error), None

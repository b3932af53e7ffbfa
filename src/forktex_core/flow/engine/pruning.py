# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The leader's chore that prunes finished runs by the rules of retention.

Protocol. For each rule, batch by batch: the runs that it has outlived are read; a rule with export
hands them to the callback, whole; then they are removed, by one statement that the leader's term
fences. A crash between callback and removal hands the same runs over again: at least once, so the
callback must bear that. A callback that fails keeps its runs.

It works beside the leader's other chores, never in front of them, and stops with the term.
"""

import asyncio
import functools
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.errors import DatabaseUnavailableError
from forktex_core.flow.store.retention import RetentionStore

_logger = logging.getLogger("forktex_core.flow.retention")
_EVERY = 60.0
_MOST_RUNS = 200
_MOST_ENTRIES = 5000

type Exporter = Callable[[list["ExportedRun"]], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """A finished run as it is handed to the callback before it goes.

    Args:
        input, output, error, journal: what JSON has; the journal in the order in which it was made.
    """

    run_id: UUID
    workflow: str
    version: int
    queue: str
    status: str
    input: Any
    output: Any
    error: Any
    metadata: dict[str, Any]
    idempotency_key: str | None
    key: str | None
    parent_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime
    journal: list[dict[str, Any]]


class Prune:
    """See the top of the file.

    Args:
        store: queries on the pool.
        export: returns the callback, None when there is none.
        outage: told of what fails.
    """

    def __init__(
        self,
        store: RetentionStore,
        export: Callable[[], Exporter | None],
        outage: Outage | None = None,
    ) -> None:
        self._outage = outage or Outage()
        self._store = store
        self._export = export
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0

    async def perform(self, worker: int, term: int) -> None:
        """Begin a round, when it is time and none is under way."""
        if time.monotonic() < self._next or self._task is not None:
            return
        self._next = time.monotonic() + _EVERY
        self._task = asyncio.create_task(self._round(worker, term), name="flow retention")

    async def stop(self) -> None:
        """Stop what is under way; safe to repeat."""
        task, self._task, self._next = self._task, None, 0.0
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _round(self, worker: int, term: int) -> None:
        try:
            rules = functools.partial(self._rules, worker, term)
            await self._outage.wait_out("pruning", rules, DatabaseUnavailableError)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            _logger.warning("pruning stopped, it is tried again in %g s: %r", _EVERY, error)
        finally:
            self._task = None

    async def _rules(self, worker: int, term: int) -> None:
        for rule in await self._store.rules():
            await self._apply(rule, worker, term)

    async def _apply(self, rule: Any, worker: int, term: int) -> None:
        export = self._export() if rule["export"] else None
        if rule["export"] and export is None:
            _logger.warning(
                "retention %r exports, but this leader has no callback: set one with on_prune() "
                "in every process that runs workers",
                rule["name"],
            )
            return
        pruned = 0
        while runs := await self._store.outlived_runs(rule["name"], _MOST_RUNS, _MOST_ENTRIES):
            if export is not None:
                handed = export(await self._whole(runs))
                if inspect.isawaitable(handed):
                    await handed
            gone = await self._store.prune_runs(worker, term, runs)
            if not gone:
                break
            pruned += gone
        if pruned:
            _logger.info("retention %r: %d runs pruned", rule["name"], pruned)

    async def _whole(self, runs: list[UUID]) -> list[ExportedRun]:
        journals: dict[UUID, list[dict[str, Any]]] = {}
        for row in await self._store.exported_entries(runs):
            entry = dict(row)
            entry["value"] = self._value(entry["value"])
            journals.setdefault(entry.pop("run_id"), []).append(entry)
        whole = []
        for row in await self._store.exported_runs(runs):
            run = dict(row)
            run_id = run.pop("id")
            for part in ("input", "output", "error"):
                run[part] = self._value(run[part])
            run["metadata"] = json.loads(run["metadata"])
            whole.append(ExportedRun(run_id, **run, journal=journals.get(run_id, [])))
        return whole

    def _value(self, text: str | None) -> Any:
        decoded = self._store.decode(text)
        return None if decoded is None else json.loads(decoded)

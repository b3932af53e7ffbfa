# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The journal writer: group commit of the entries of all runs of a worker.

Protocol. One flush is in flight at a time; what is appended meanwhile goes in the next one, so an
idle worker flushes at once and a busy one shares each commit among many runs. A flush is one fenced
statement (store/queries/journal.sql): a plain one, one that takes signals, or, when an entry of it
has effects (runs started, signals sent, values published), one that writes those as well. It ends
in one of these ways:

- all rows new: committed; each execution is told, in order of appending.
- the connection failed: nobody knows whether the commit happened. The same batch is sent again;
  rows that are there already don't count as new, and are then looked up: an entry that stands there
  with the same worker, claim and number is a success.
- Postgres refused the data: the batch is halved until the guilty entry is alone; its run is told,
  the others go on.
- rows missing that aren't ours: the claim is lost, the run is dropped here.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.store.connection import is_refusal
from forktex_core.flow.store.effects import Effect, EffectColumns, NewValue, Woken
from forktex_core.flow.store.store import Store

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.replay import Entry

_logger = logging.getLogger("forktex_core.flow.journal")
_MAX_BATCH = 2000
_MAX_BYTES = 8 << 20

_SHOW_AFTER = 0.1

type Item = tuple["Execution", "Entry", int | None, Sequence[Effect]]


class JournalWriter:
    """See the top of the file.

    Args:
        store: queries on a link of the writer's own.
        worker_id: returns the id of the worker's present life.
        on_lost: called with an execution whose claim turned out to be lost.
        on_woken: called with those who are to be told of effects.
        outage: told of what fails.
    """

    def __init__(
        self,
        store: Store,
        worker_id: Callable[[], int],
        on_lost: Callable[["Execution"], None],
        on_woken: Callable[[list[Woken]], None],
        outage: Outage | None = None,
    ) -> None:
        self._store = store
        self._outage = outage or Outage()
        self._worker_id = worker_id
        self._on_lost = on_lost
        self._on_woken = on_woken
        self._shown: dict[tuple[UUID, str], NewValue] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._items: list[Item] = []
        self._filled = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.flushes = 0

    def append(self, item: Item) -> None:
        """Add an entry to the next flush."""
        self._items.append(item)
        for effect in item[3]:
            if isinstance(effect, NewValue):  # what was shown before would come after it
                self._shown.pop((effect.run_id, effect.key), None)
        self._filled.set()

    def show(self, value: NewValue) -> None:
        """Publish a value within a tenth of a second, unless a later one for its key comes."""
        self._shown[value.run_id, value.key] = value
        if self._alarm is None and self._loop is not None:  # not the running one: that is a body's
            self._alarm = self._loop.call_later(_SHOW_AFTER, self._show_now)

    async def run(self) -> None:
        """Flush for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            self._filled.clear()
            while batch := self._take():
                self._settled.clear()
                await self._flush(batch)
            if self._shown and self._alarm is None:
                shown, self._shown = list(self._shown.values()), {}
                await self._show(shown)
            self._settled.set()

    @property
    def idle(self) -> bool:
        """Whether no flush is under way, and none about to be."""
        return self._settled.is_set() and not self._items

    async def settled(self) -> None:
        """Wait until the flush that is under way, if any, has ended."""
        await self._settled.wait()

    def _show_now(self) -> None:
        self._alarm = None
        self._filled.set()

    def _take(self) -> list[Item]:
        batch, self._items = self._items[:_MAX_BATCH], self._items[_MAX_BATCH:]
        batch = [item for item in batch if not item[0].sealed]
        size = 0
        for count, (_, entry, *_rest) in enumerate(batch):
            size += len(entry.value or "")
            if size > _MAX_BYTES and count:
                self._items[:0] = batch[count:]
                return batch[:count]
        return batch

    async def _flush(self, batch: list[Item]) -> None:
        worker = self._worker_id()
        rows = [entry_row(execution.run_id, entry) for execution, entry, *_ in batch]
        taken = [(e.run_id, no, entry.seq) for e, entry, no, _ in batch if no is not None]
        effects = EffectColumns()
        for place, item in enumerate(batch, 1):
            effects.add(place, item[3])
        with self._outage.patience(f"a flush of {len(rows)} journal entries") as patience:
            while True:
                try:
                    self.flushes += 1
                    if await self._append(worker, rows, taken, effects) == len(rows):
                        missing: set[int] = set()
                    else:
                        missing = await self._missing(worker, rows)
                    break
                except Exception as error:  # noqa: BLE001 - every failure of the connection is waited out
                    if is_refusal(error):
                        await self._bisect(batch, error)
                        return
                    await patience.pause(error)
                    if worker != self._worker_id():
                        return
        for index, (execution, entry, *_) in enumerate(batch):
            if execution.sealed:
                continue
            if index in missing:
                self._on_lost(execution)
            else:
                execution.committed(entry)

    async def _append(
        self,
        worker: int,
        rows: list[tuple[Any, ...]],
        taken: list[tuple[UUID, int, int]],
        effects: EffectColumns,
    ) -> int:
        if not effects:
            return await self._store.append_entries(worker, rows, taken)
        added, woken = await self._store.append_effects(worker, rows, taken, effects)
        self._on_woken(woken)
        return added

    async def _show(self, values: list[NewValue]) -> None:
        effects = EffectColumns()
        effects.add(0, values)
        try:
            await self._store.append_effects(self._worker_id(), [], [], effects)
        except Exception as error:  # noqa: BLE001 - progress is news: what is lost is soon outdated
            _logger.warning("%d values were not published: %s", len(values), error)

    async def _missing(self, worker: int, rows: list[tuple[Any, ...]]) -> set[int]:
        written = await self._store.entries_written(worker, rows)
        return {index for index, row in enumerate(rows) if (row[0], row[1]) not in written}

    async def _bisect(self, batch: list[Item], error: BaseException) -> None:
        if len(batch) == 1:
            execution, entry, *_ = batch[0]
            if not execution.sealed:
                execution.refused(entry, error)
            return
        middle = len(batch) // 2
        await self._flush(batch[:middle])
        await self._flush(batch[middle:])


def entry_row(run_id: UUID, e: "Entry") -> tuple[Any, ...]:
    """Return an entry as the queries take it."""
    return (
        run_id,
        e.key,
        e.seq,
        e.kind,
        e.name,
        e.failed,
        e.value,
        e.claim,
        e.attempt,
        e.started_at,
        e.at,
    )

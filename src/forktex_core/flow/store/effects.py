# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a journal entry brings about beyond its run's journal, and the queries that write both at
once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.flow.store.base import Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """A run to be started by another one."""

    id: UUID
    workflow: str
    version: int
    lane: str
    queue: str
    priority: int
    due: datetime | None
    input: str
    metadata: str
    parent_id: UUID | None = None
    parent_key: str | None = None
    parent_close: str | None = None


@dataclass(frozen=True, slots=True)
class NewSignal:
    """A signal to be sent."""

    run_id: UUID
    name: str
    payload: str


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value to be published, by the run's claim of a number."""

    run_id: UUID
    key: str
    value: str
    claim: int


type Effect = Spawn | NewSignal | NewValue


@dataclass(frozen=True, slots=True)
class Woken:
    """What a statement says of other runs: ``part`` w (to be woken), e (ended), s (a new one in a
    queue).
    """

    part: str
    run_id: UUID | None
    worker_id: int | None
    queue: str | None


@dataclass(slots=True)
class EffectColumns:
    """Effects as the arrays that append_effects takes, each with the place of its entry, from 1."""

    runs: list[tuple[Any, ...]] = field(default_factory=list)
    signals: list[tuple[Any, ...]] = field(default_factory=list)
    values: dict[tuple[UUID, str], tuple[Any, ...]] = field(default_factory=dict)

    def add(self, place: int, effects: Iterable[Effect]) -> None:
        """Add the effects of the entry at a place; 0 for what belongs to none."""
        for effect in effects:
            if isinstance(effect, NewValue):  # one statement can't write a row twice: the last wins
                value = (place, effect.run_id, effect.key, effect.value, effect.claim)
                self.values[effect.run_id, effect.key] = value
            elif isinstance(effect, NewSignal):
                self.signals.append((place, effect.run_id, effect.name, effect.payload))
            else:
                self.runs.append(
                    (
                        place, effect.id, effect.workflow, effect.version, effect.lane,
                        effect.queue, effect.priority, effect.due, effect.input, effect.metadata,
                        effect.parent_id, effect.parent_key, effect.parent_close,
                    )
                )  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self.runs or self.signals or self.values)

    def arrays(self) -> list[list[Any]]:
        """Return the arguments of append_effects after the entries and the taken signals."""
        return [
            *_columns(self.runs, 13),
            *_columns(self.signals, 4),
            *_columns(self.values.values(), 5),
        ]


def _columns(rows: Iterable[tuple[Any, ...]], count: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(count)]


class EffectQueries(Queries):
    """The part of Store that writes entries together with their effects."""

    async def append_effects(
        self,
        worker: int,
        rows: Sequence[tuple[Any, ...]],
        taken: Sequence[tuple[UUID, int, int]],
        effects: EffectColumns,
    ) -> tuple[int, list[Woken]]:
        """Append entries with their effects; return how many were new, and who is to be told."""
        args = self.effect_arguments(worker, rows, taken, effects)
        return effect_answer(await self._rows("append_effects", *args))

    def effect_arguments(
        self,
        worker: int,
        rows: Sequence[tuple[Any, ...]],
        taken: Sequence[tuple[UUID, int, int]],
        effects: EffectColumns,
    ) -> list[Any]:
        """Return the arguments of the query append_effects."""
        if self._codec is not None:
            rows = [(*row[:6], self.encode(row[6]), *row[7:]) for row in rows]
            effects = self._encoded(effects)
        return [worker, *_columns(rows, 11), *_columns(taken, 3), *effects.arrays()]

    def _encoded(self, effects: EffectColumns) -> EffectColumns:
        return EffectColumns(
            [(*r[:8], self.encode(r[8]), *r[9:]) for r in effects.runs],
            [(*s[:3], self.encode_signal(s[2], s[3])) for s in effects.signals],
            {key: (*v[:3], self.encode(v[3]), v[4]) for key, v in effects.values.items()},
        )

    async def settle_entry(self, run_id: UUID, key: str) -> Any:
        """Return worker_id, claim, attempt and seq of an entry once nobody is writing it any more;
        None when there is none.
        """
        rows = await self._rows("settle_entry", run_id, key)
        return rows[0] if rows else None

    async def put_signals(self, signals: Sequence[tuple[UUID, str, str]]) -> list[Woken]:
        """Send signals, (run, name, payload) each; return who is to be told."""
        stored = [(run, name, self.encode_signal(name, text)) for run, name, text in signals]
        found = await self._rows("put_signals", *map(list, zip(*stored, strict=True)))
        return [woken(row) for row in found]

    async def continue_runs(
        self, worker: int, runs: Sequence[tuple[UUID, int, str]]
    ) -> dict[UUID, str]:
        """Begin the next generation of runs, (id, claim, input) each; return the queues of those
        that were still ours.
        """
        stored = [(run, claim, self.encode(text)) for run, claim, text in runs]
        found = await self._rows("continue_runs", worker, *map(list, zip(*stored, strict=True)))
        return {row["run_id"]: row["queue"] for row in found}

    async def published(self, run_id: UUID, key: str) -> Any:
        """Return id, key and value of what a run published; None when there is no such run."""
        rows = await self._rows("published", run_id, key)
        return rows[0] if rows else None


def effect_answer(rows: Iterable[Any]) -> tuple[int, list[Woken]]:
    """Read what append_effects returned: the number of new entries, and who is to be told."""
    added, told = 0, []
    for row in rows:
        if row["part"] == "n":
            added = row["n"]
        else:
            told.append(woken(row))
    return added, told


def woken(row: Any) -> Woken:
    """Read a row of put_signals."""
    return Woken(row["part"], row["run_id"], row["worker_id"], row["queue"])

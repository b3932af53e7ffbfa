# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.fleet``: who works: workers, their leader, what they serve, and what queues have to do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from forktex_core.flow.client import Client
from forktex_core.flow.gate import guarded
from forktex_core.flow.store.inspection import InspectionStore

_SILENT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A life of a worker.

    Attributes:
        queues, lanes: what it serves; a lane is ``workflow@version``.
        slots: runs that it executes at most.
        running: runs that it executes now.
        leads: whether it does the leader's chores.
        session_lock: whether it holds a lock that tells of its death at once.
        silent: whether it lives and has not been heard of for five seconds.
        end_reason: ``stopped``, ``gone`` …; None while it lives.
    """

    id: int
    name: str
    host: str
    pid: int
    queues: list[str]
    lanes: list[str]
    slots: int
    running: int
    leads: bool
    session_lock: bool
    started_at: datetime
    heartbeat_at: datetime
    silent: bool
    ended_at: datetime | None
    end_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderState:
    """Who does the chores.

    Attributes:
        worker_id: None while the office is empty.
        term: how often the office changed hands.
        seen_at: when the leader was last heard of.
        present: whether that was within the last five seconds.
    """

    worker_id: int | None
    worker: str | None
    host: str | None
    pid: int | None
    term: int
    elected_at: datetime | None
    seen_at: datetime | None
    locked: bool
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedDefinition:
    """A version of a workflow that some worker ever served.

    Attributes:
        workers: how many serve it now.
    """

    workflow: str
    version: int
    kind: str
    registered_at: datetime
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """What a queue has to do.

    Attributes:
        due: runs that could be claimed now.
        later: runs with a time that has not come.
        running: runs that are executed now.
        oldest_due_at: since when the first of those that are due has waited.
    """

    queue: str
    due: int
    later: int
    running: int
    oldest_due_at: datetime | None
    paused: bool
    concurrency: int | None
    per_key: int | None
    rate: int | None
    rate_period: float | None


class Fleet:
    """See the top of the file."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _on(self, client: Client) -> "Fleet":
        return Fleet(client)

    @property
    def _store(self) -> InspectionStore:
        return self._client._open.inspection  # noqa: SLF001 - a part of the Flow

    @guarded("fleet.read")
    async def workers(self, *, ended_within: float | timedelta = 0) -> list[WorkerState]:
        """Return the workers that live, and those that ended within so many seconds."""
        within = ended_within
        hours = (within.total_seconds() if isinstance(within, timedelta) else within) / 3600
        return [_worker(row) for row in await self._store.lives(hours)]

    @guarded("fleet.read")
    async def leader(self) -> LeaderState:
        """Return who does the chores."""
        row = await self._store.leader()
        seen = row["seen_at"]
        return LeaderState(
            worker_id=row["worker_id"], worker=row["name"], host=row["host"], pid=row["pid"],
            term=row["term"], elected_at=row["elected_at"], seen_at=seen, locked=row["locked"],
            present=row["worker_id"] is not None and row["now"] - seen <= _SILENT,
        )  # fmt: skip

    @guarded("fleet.read")
    async def definitions(self) -> list[ServedDefinition]:
        """Return every version of every workflow that a worker ever served."""
        return [
            ServedDefinition(**{name: row[name] for name in ServedDefinition.__slots__})
            for row in await self._store.definitions()
        ]

    @guarded("fleet.read")
    async def queues(self) -> list[QueueDepth]:
        """Return what queues have to do. It reads all runs that are due, or due later."""
        return [
            QueueDepth(**{name: row[name] for name in QueueDepth.__slots__})
            for row in await self._store.depths()
        ]


def _worker(row: Any) -> WorkerState:
    same = {n: row[n] for n in WorkerState.__slots__ if n != "silent"}
    living = row["ended_at"] is None
    return WorkerState(**same, silent=living and row["now"] - row["heartbeat_at"] > _SILENT)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One typed method for each named query."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow.replay import Entry
from forktex_core.flow.store.connection import Statements
from forktex_core.flow.store.rows import Claimed, Signal
from forktex_core.flow.store.sql import queries


class Store:
    """The queries of a schema, run on a pool or on a link."""

    def __init__(self, statements: Statements, schema: str) -> None:
        self._run = statements.fetch
        self._sql = queries(schema)

    async def _rows(self, name: str, *args: Any) -> list[Any]:
        return await self._run(self._sql[name], *args)

    async def _row(self, name: str, *args: Any) -> Any:
        rows = await self._run(self._sql[name], *args)
        return rows[0] if rows else None

    # Runs, as callers see them

    async def insert_run(self, *columns: Any) -> bool:
        """Insert a run; False when its idempotency key is taken."""
        return await self._row("insert_run", *columns) is not None

    async def insert_runs(self, *columns: Any) -> None:
        """Insert many runs of one definition."""
        await self._rows("insert_runs", *columns)

    async def run_by_idempotency_key(self, workflow: str, key: str) -> UUID | None:
        """Return the run that holds an idempotency key."""
        row = await self._row("run_by_idempotency_key", workflow, key)
        return None if row is None else UUID(bytes=row["id"].bytes)

    async def outcomes(self, runs: Sequence[UUID], unsure: Sequence[bool]) -> list[Any]:
        """Return the rows of those runs that ended or stand still; of an ``unsure`` one that is not
        there, a row without a status.
        """
        return await self._rows("outcomes", runs, unsure)

    async def send_signal(self, run_id: UUID, name: str, payload: str, key: str | None) -> Any:
        """Put a signal into a run's inbox; return outcome, status, worker_id and queue."""
        return await self._row("send_signal", run_id, name, payload, key)

    async def journal(self, run_id: UUID) -> list[Any]:
        """Return a run's journal."""
        return await self._rows("journal", run_id)

    async def latest_definition(self, workflow: str, version: int | None) -> Any:
        """Return version and lane of a definition that some worker registered, or None."""
        return await self._row("latest_definition", workflow, version)

    async def notify(self, messages: Iterable[tuple[str, str]]) -> None:
        """Send notifications, (channel, payload) each."""
        channels, payloads = zip(*messages, strict=True)
        await self._rows("notify", channels, payloads)

    # Claims

    async def claim_runs(
        self, worker: int, queues: list[str], lanes: list[str], slots: int, warm: dict[UUID, int]
    ) -> list[Claimed]:
        """Claim due runs; journals come for those that aren't warm."""
        rows = await self._rows(
            "claim_runs", worker, queues, lanes, slots, list(warm), list(warm.values())
        )
        claimed: dict[UUID, Claimed] = {}
        for row in rows:
            if row["part"] == "r":
                claimed[row["run_id"]] = _claimed(row)
            elif row["part"] == "j":
                claimed[row["run_id"]].entries.append(_entry(row))
            else:
                signal = Signal(row["no"], row["name"], row["value"], row["at"].timestamp())
                claimed[row["run_id"]].signals.append(signal)
        return list(claimed.values())

    async def park_runs(
        self, worker: int, parks: Sequence[tuple[UUID, int, int, float | None, str]]
    ) -> dict[UUID, str]:
        """Park runs, (id, claim, seen, due, waiting_for) each; return what became of each: parked,
        stale or lost.
        """
        ids, claims, seen, due, waiting = zip(*parks, strict=True)
        moments = [None if d is None else datetime.fromtimestamp(d, UTC) for d in due]
        rows = await self._rows("park_runs", worker, ids, claims, seen, moments, waiting)
        return {row["run_id"]: row["outcome"] for row in rows}

    async def finish_runs(
        self, worker: int, endings: Sequence[tuple[UUID, int, str, str | None, str | None]]
    ) -> list[Any]:
        """End runs, (id, claim, status, output, error) each; return the rows of those that were
        still ours.
        """
        return await self._rows("finish_runs", worker, *zip(*endings, strict=True))

    async def claims_of(self, runs: Sequence[UUID]) -> list[Any]:
        """Return id, claim and status of runs."""
        return await self._rows("claims_of", runs)

    async def release_runs(self, worker: int, runs: Sequence[tuple[UUID, int]]) -> None:
        """Give claims back, (id, claim) each."""
        if runs:
            await self._rows("release_runs", worker, *zip(*runs, strict=True))

    async def held_runs(self, worker: int) -> list[Any]:
        """Return id and claim of the runs that a worker has held for some seconds."""
        return await self._rows("held_runs", worker)

    async def open_signals(self, runs: dict[UUID, int]) -> dict[UUID, list[Signal]]:
        """Return what came into these runs' inboxes after the number given for each."""
        found: dict[UUID, list[Signal]] = {}
        for row in await self._rows("open_signals", list(runs), list(runs.values())):
            signal = Signal(row["no"], row["name"], row["payload"], row["sent_at"].timestamp())
            found.setdefault(row["run_id"], []).append(signal)
        return found

    # Journal

    async def append_entries(
        self, worker: int, rows: Sequence[tuple[Any, ...]], taken: Sequence[tuple[UUID, int]]
    ) -> int:
        """Append entries (and mark signals as taken); return how many rows were new."""
        columns = zip(*rows, strict=True)
        if not taken:
            row = await self._row("append_entries", worker, *columns)
        else:
            row = await self._row(
                "append_taking_signals", worker, *columns, *zip(*taken, strict=True)
            )
        return row["count"]  # type: ignore[no-any-return]

    async def entries_written(
        self, worker: int, rows: Sequence[tuple[Any, ...]]
    ) -> set[tuple[UUID, str]]:
        """Return (run, key) of those entries that stand in the journal just so."""
        ids, keys, seqs = zip(*(r[:3] for r in rows), strict=True)
        claims = [r[7] for r in rows]
        found = await self._rows("entries_written", worker, ids, keys, seqs, claims)
        return {(row["run_id"], row["key"]) for row in found}

    # Workers and leader

    async def register_worker(self, *columns: Any) -> Any:
        """Begin a worker's life; return id and whether the session lock was taken."""
        return await self._row("register_worker", *columns)

    async def hold_session_lock(self, worker: int, lock_class: int) -> bool:
        """Take the session lock again; False when the life was ended or another holds it."""
        row = await self._row("hold_session_lock", worker, lock_class)
        return row is not None and row["locked"]

    async def end_worker(self, worker: int, reason: str) -> list[str]:
        """End a worker's life and free its runs; return their queues."""
        return (await self._row("end_worker", worker, reason))["queues"]  # type: ignore[no-any-return]

    async def tick(
        self,
        worker: int,
        lock_class: int | None,
        queues: list[str],
        lanes: list[str],
        seen: dict[UUID, int],
        *,
        lead: bool,
    ) -> Any:
        """Beat, try to lead, look for due runs and missed signals."""
        return await self._row(
            "tick", worker, lock_class, queues, lanes, list(seen), list(seen.values()), lead
        )

    async def do_chores(
        self, worker: int, term: int, lock_class: int | None, *, trust_locks: bool, lease: timedelta
    ) -> Any:
        """Hand on the runs of workers that are gone; return in_office, ended and queues."""
        return await self._row("do_chores", worker, term, lock_class, trust_locks, lease)

    async def resign(self, worker: int) -> None:
        """Leave the leader's office."""
        await self._rows("resign", worker)

    async def register_definitions(self, definitions: Sequence[tuple[str, int, str, str]]) -> None:
        """Tell the database what this process serves."""
        await self._rows("register_definitions", *zip(*definitions, strict=True))


def _claimed(row: Any) -> Claimed:
    return Claimed(
        run_id=row["run_id"],
        workflow=row["workflow"],
        version=row["version"],
        queue=row["queue"],
        claim=row["claim"],
        signal_seq=row["no"],
        input=row["value"],
        started_at=row["at"].timestamp(),
        parent_id=row["parent_id"],
        parent_key=row["parent_key"],
        metadata=row["metadata"],
    )


def _entry(row: Any) -> Entry:
    at = row["at"].timestamp()
    return Entry(
        row["key"],
        row["no"],
        row["kind"],
        row["name"],
        row["failed"],
        row["value"],
        row["claim"],
        row["attempt"],
        at,
        at,
    )

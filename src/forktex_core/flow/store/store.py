# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One typed method for each named query."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow.errors import PayloadError
from forktex_core.flow.replay import Entry
from forktex_core.flow.store.effects import EffectQueries, Woken, woken
from forktex_core.flow.store.rows import Claimed, NewRun, NewRuns, Signal

# The last moment that a datetime can name (year 9999): who sleeps longer sleeps for ever.
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Store(EffectQueries):
    """The queries of runs, journals, signals, workers and the leader."""

    # Runs, as callers see them

    async def insert_run(self, run: NewRun) -> bool:
        """Insert a run; False when one of its keys is taken."""
        return await self._row("insert_run", *self.run_columns(run)) is not None

    def run_columns(self, run: NewRun) -> tuple[Any, ...]:
        """Return the arguments of the query that inserts a run."""
        return (
            run.id, run.workflow, run.version, run.lane, run.queue, run.priority, run.due,
            self.encode(run.input), run.metadata, run.idempotency_key, run.key,
            run.deduplication_key, run.timeout, run.delay, *self.view.values(run.columns),
        )  # fmt: skip

    async def insert_runs(self, runs: NewRuns) -> None:
        """Insert many runs of one definition."""
        texts = [self.encode(text) for text in runs.inputs]
        values = self.view.values(runs.columns)
        await self._rows("insert_runs_array", *self.runs_columns(runs), runs.ids, texts, *values)

    def runs_columns(self, runs: NewRuns) -> tuple[Any, ...]:
        """Return the arguments that all runs of one statement share."""
        return (
            runs.workflow, runs.version, runs.lane, runs.queue, runs.priority, runs.due,
            runs.metadata, runs.key, runs.timeout, runs.delay,
        )  # fmt: skip

    async def run_by_key(self, run: NewRun) -> UUID | None:
        """Return the run that holds an idempotency or deduplication key."""
        row = await self._row(
            "run_by_key", run.workflow, run.idempotency_key, run.queue, run.deduplication_key
        )
        return None if row is None else UUID(bytes=row["id"].bytes)

    async def outcomes(self, runs: Sequence[UUID], unsure: Sequence[bool]) -> list[Any]:
        """Return the rows of those runs that ended or stand still; of an ``unsure`` one that is not
        there, a row without a status.
        """
        return await self._rows("outcomes", runs, unsure)

    async def run_view(self, run_id: UUID) -> Any:
        """Return a run as authorization sees it, None when it isn't there for the principal."""
        return await self._row("run_view", run_id)

    async def run_status(self, run_id: UUID) -> Any:
        """Return what a run is and how it stands, or None."""
        return await self._row("run_status", run_id)

    async def send_signal(self, run_id: UUID, name: str, payload: str, key: str | None) -> Any:
        """Put a signal into a run's inbox; return outcome, status, worker_id and queue."""
        return await self._row("send_signal", run_id, name, self.encode_signal(name, payload), key)

    async def journal(self, run_id: UUID) -> list[Any]:
        """Return a run's journal."""
        return await self._rows("journal", run_id)

    async def latest_definition(self, workflow: str, version: int | None) -> Any:
        """Return version and lane of a definition that some worker registered, or None."""
        return await self._row("latest_definition", workflow, version)

    async def database_time(self) -> datetime:
        """Return the database's time."""
        return (await self._row("database_time"))["now"]  # type: ignore[no-any-return]

    async def notify(self, messages: Iterable[tuple[str, str]]) -> None:
        """Send notifications, (channel, payload) each."""
        channels, payloads = zip(*messages, strict=True)
        await self._rows("notify", channels, payloads)

    # Claims

    async def claim_runs(
        self, worker: int, queues: list[str], lanes: list[str], slots: int, warm: dict[UUID, int]
    ) -> tuple[list[Claimed], float | None]:
        """Claim due runs; journals come for those that aren't warm. Also return when it pays to ask
        again, if a queue's limit held something back.
        """
        return self._read_claims(
            await self._rows(
                "claim_runs", worker, queues, lanes, slots, list(warm), list(warm.values())
            )
        )

    async def wake_runs(
        self,
        worker: int,
        runs: Sequence[tuple[UUID, int, int, str | None, int, str, Sequence[str]]],
    ) -> list[Claimed]:
        """Claim parked runs, (id, claim that parked it, seen of its inbox, key of the only wait or
        None, number of its entry, its name, the signals that it takes) each; return those that
        nobody claimed since, with the entry of a signal that was taken at once.
        """
        ids, claims, seen, keys, seqs, labels, names = zip(*sorted(runs), strict=True)
        if self._codec is not None:  # what is journaled has to pass it
            keys = (None,) * len(keys)
        arrays = [_array(n) for n in names]
        rows = await self._rows("wake_runs", worker, ids, claims, seen, keys, seqs, labels, arrays)
        return self._read_claims(rows)[0]

    def _read_claims(self, rows: list[Any]) -> tuple[list[Claimed], float | None]:
        claimed: dict[UUID, Claimed] = {}
        again = None
        for row in rows:
            if row["part"] == "n":
                again = row["at"].timestamp()
            elif row["part"] == "r":
                claimed[row["run_id"]] = _claimed(row)
            elif row["part"] == "j":
                claimed[row["run_id"]].entries.append(_entry(row))
            else:
                claimed[row["run_id"]].signals.append(
                    Signal(row["no"], row["name"], row["value"], row["at"].timestamp())
                )
        if self._codec is not None:
            for run in claimed.values():
                self._decode_claimed(run)
        return list(claimed.values()), again

    def _decode_claimed(self, run: Claimed) -> None:
        try:
            run.input = self.decode(run.input)
            for entry in run.entries:
                entry.value = self.decode(entry.value)
            for signal in run.signals:
                signal.payload = self.decode_signal(signal.name, signal.payload)
        except PayloadError as error:
            run.fault = error

    async def park_runs(
        self, worker: int, parks: Sequence[tuple[UUID, int, int, float | None, str]]
    ) -> dict[UUID, str]:
        """Park runs, (id, claim, seen, due, waiting_for) each; return what became of each: parked,
        stale or lost.
        """
        ids, claims, seen, due, waiting = zip(*parks, strict=True)
        moments = [None if d is None else datetime.fromtimestamp(min(d, _LATEST), UTC) for d in due]
        rows = await self._rows("park_runs", worker, ids, claims, seen, moments, waiting)
        return {row["run_id"]: row["outcome"] for row in rows}

    async def finish_runs(
        self,
        worker: int,
        endings: Sequence[tuple[UUID, int, str, str | None, str | None]],
        closing: Sequence[UUID] = (),
        cancel: str = "",
        terminate: str = "",
    ) -> list[Woken]:
        """End runs, (id, claim, status, output, error) each; return those that were still ours, and
        who is to be told.

        The children of ``closing`` get the payload ``cancel`` or ``terminate``, by their policy.
        """
        rows = [(*e[:3], self.encode(e[3]), self.encode_error(e[4])) for e in endings]
        columns = zip(*rows, strict=True)
        found = await self._rows("finish_runs", worker, *columns, list(closing), cancel, terminate)
        return [woken(row) for row in found]

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
            try:
                signal.payload = self.decode_signal(signal.name, signal.payload)
            except PayloadError as error:
                signal.fault = error
            found.setdefault(row["run_id"], []).append(signal)
        return found

    # Journal

    async def append_entries(
        self, worker: int, rows: Sequence[tuple[Any, ...]], taken: Sequence[tuple[UUID, int, int]]
    ) -> int:
        """Append entries (and mark signals as taken, each by the entry of a number); return how
        many rows were new.
        """
        if self._codec is not None:
            rows = [(*row[:6], self._encode_entry(row), *row[7:]) for row in rows]
        lines = [journal_line(*row) for row in rows]
        if not taken:
            row = await self._row("append_entries", worker, lines)
        else:
            row = await self._row("append_taking_signals", worker, lines, *zip(*taken, strict=True))
        return row["count"]  # type: ignore[no-any-return]

    def _encode_entry(self, row: tuple[Any, ...]) -> str | None:
        return self.encode_error(row[6]) if row[5] else self.encode(row[6])

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
        trust_locks: bool,
        lease: timedelta,
        grace: timedelta,
    ) -> Any:
        """Beat, try to lead, look for due runs, missed signals and (leading) chores."""
        return await self._row(
            "tick", worker, lock_class, queues, lanes, list(seen), list(seen.values()), lead,
            trust_locks, lease, grace,
        )  # fmt: skip

    async def revoked_runs(self, worker: int) -> list[UUID]:
        """Return the runs that were taken from a worker and not yet dropped there."""
        row = await self._row("revoked_runs", worker)
        return [] if row is None else row["revoked"]

    async def acknowledge_revoked(self, worker: int, runs: list[UUID]) -> None:
        """Say that nothing of runs that were taken from a worker is under way there any more."""
        await self._rows("acknowledge_revoked", worker, runs)

    async def do_chores(
        self,
        worker: int,
        term: int,
        lock_class: int | None,
        *,
        trust_locks: bool,
        predecessor: int | None,
        lease: timedelta,
        grace: timedelta,
    ) -> Any:
        """Hand on the runs of workers that are gone, tell runs whose time is up; return in_office,
        ended, queues, told_workers, told_runs, finished and schedules_due.
        """
        return await self._row(
            "do_chores", worker, term, lock_class, trust_locks, predecessor, lease, grace
        )

    async def resign(self, worker: int) -> None:
        """Leave the leader's office."""
        await self._rows("resign", worker)

    async def register_definitions(
        self, definitions: Sequence[tuple[str, int, str, str, str | None]]
    ) -> list[tuple[str, int]]:
        """Tell the database what this process serves: (workflow, version, lane, kind, hash of the
        body) each; return those that had another hash before.
        """
        rows = await self._rows("register_definitions", *zip(*definitions, strict=True))
        return [(row["workflow"], row["version"]) for row in rows]


def journal_line(  # noqa: PLR0917 - the columns of the type, in its order
    run_id: UUID,
    key: str,
    seq: int,
    kind: str,
    name: str,
    failed: bool,
    value: str | None,
    claim: int,
    attempt: int,
    started_at: float,
    at: float,
) -> str:
    """Return the literal of a ``journal_line``: texts in quotes, with quotes and backslashes in
    them doubled.
    """
    if value is None:
        text = ""
    elif '"' in value or "\\" in value:
        text = f'"{_doubled(value)}"'
    else:
        text = f'"{value}"'
    if '"' in name or "\\" in name:
        name = _doubled(name)
    if '"' in key or "\\" in key:
        key = _doubled(key)
    return (
        f'({run_id},"{key}",{seq},{kind},"{name}",{failed},{text},{claim},{attempt},'
        f"{started_at!r},{at!r})"
    )


def _array(texts: Sequence[str]) -> str:
    """Return the literal of an array of texts."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _doubled(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '""')


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
        generation=row["attempt"],
        limited=row["failed"],
        seed=row["key"] or str(row["run_id"]),
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

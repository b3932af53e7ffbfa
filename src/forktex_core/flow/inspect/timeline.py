# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What happened to a run, in order: made from its row, its journal, its inbox, its children and the
lives of the workers that held it. Pure.

Only what the tables hold is told, and the engine writes nothing just to be looked at. So a claim
shows from the first to the last entry that it recorded (one that recorded nothing is listed without
times), an attempt that is under way shows when it has ended, and what a former generation did is
gone with its journal.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from forktex_core.flow.errors import PayloadError
from forktex_core.flow.inspect.rows import RecordedFailure, RunDetail, failure, plain_id
from forktex_core.flow.replay import ATTEMPT, CANCEL, CHILD, EFFECT, PATCH, SIGNAL, STEP, TIMER

type EventKind = Literal[
    "created", "claim", "step", "timer", "wait", "child", "effect", "patch", "cancel", "signal",
    "waiting", "worker_ended", "paused", "ended",
]  # fmt: skip

_KINDS: dict[str, EventKind] = {
    STEP: "step", TIMER: "timer", SIGNAL: "wait", CHILD: "child", EFFECT: "effect",
    PATCH: "patch", CANCEL: "cancel",
}  # fmt: skip
# At the same moment: what brought something about stands before it.
_RANK: dict[EventKind, int] = {"signal": 1, "claim": 2}
_PLACE: dict[EventKind, int] = {"created": 0, "waiting": 2, "paused": 2, "ended": 2}


class Decoding(Protocol):
    """The part of the store that undoes the payload codec."""

    def decode(self, text: str | None) -> str | None:
        """Return the JSON text of what was stored."""

    def decode_signal(self, name: str, text: str | None) -> str | None:
        """Return a signal's payload."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a step.

    Attributes:
        number: counted from 1.
        started_at, ended_at: when its function ran.
        error: how it failed; None of one that succeeded.
        retry_at: when the next attempt was due, if one follows.
        worker_id: the worker that ran it.
    """

    number: int
    started_at: datetime
    ended_at: datetime
    error: RecordedFailure | None
    retry_at: datetime | None
    worker_id: int

    @property
    def duration(self) -> timedelta:
        """How long the function ran."""
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, or is going on.

    Attributes:
        kind: ``created``; ``claim`` (a worker had the run); ``step``; ``timer`` (a sleep or a
            timeout); ``wait`` (for a signal, or a child's end); ``child`` (a run that it started);
            ``effect`` (a signal that it sent, a value that it published); ``patch``; ``cancel``;
            ``signal`` (one arrived); ``waiting`` (what it waits for now); ``worker_ended``;
            ``paused``; ``ended``.
        at: when it began.
        ended_at: when it ended; None while it goes on, and of claims that recorded nothing.
        name: of the step, signal, workflow …
        key: the key of its journal entry.
        seq: the place of its journal entry.
        claim: the number of the claim.
        worker_id: who did it.
        failed: whether it failed, or timed out.
        attempts: of a step.
        error: how it failed.
        value: the result or payload.
        compensation: whether it is part of a rollback.
        run_id: the child.
        detail: whatever else there is to say, in words.
    """

    kind: EventKind
    at: datetime
    ended_at: datetime | None = None
    name: str = ""
    key: str | None = None
    seq: int | None = None
    claim: int | None = None
    worker_id: int | None = None
    failed: bool = False
    attempts: tuple[Attempt, ...] = ()
    error: RecordedFailure | None = None
    value: Any = None
    compensation: bool = False
    run_id: UUID | None = None
    detail: str = ""

    @property
    def duration(self) -> timedelta | None:
        """From its beginning to its end; None while it has none."""
        return None if self.ended_at is None else self.ended_at - self.at


@dataclass(frozen=True, slots=True)
class WorkerLife:
    """A life of a worker that had to do with a run."""

    id: int
    name: str
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    end_reason: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is known of what happened to a run.

    Attributes:
        run: how it stands.
        events: in the order in which they began.
        workers: those who did it, by number.
    """

    run: RunDetail
    events: list[Event]
    workers: dict[int, WorkerLife]


def build(  # noqa: PLR0917 - the tables that it is made of
    run: RunDetail,
    entries: Sequence[Any],
    signals: Sequence[Any],
    children: Sequence[Any],
    workers: Sequence[Any],
    decoding: Decoding,
    *,
    payloads: bool = True,
) -> Timeline:
    """Return the timeline of a run from the rows of the tables."""
    lives = {row["id"]: WorkerLife(*(row[n] for n in WorkerLife.__slots__)) for row in workers}
    reader = _Reader(decoding, payloads)
    events = [
        Event(kind="created", at=run.created_at, name=run.workflow, detail=_origin(run)),
        *_claims(run, entries),
        *_entries(entries, {row["parent_key"]: row for row in children}, reader),
        *(_signal(row, reader) for row in signals),
        *_deaths(entries, lives),
        *_standing(run, entries),
    ]
    # A worker reckons the database's time to a millisecond or so: the ends of the story are fixed.
    events.sort(key=lambda e: (_PLACE.get(e.kind, 1), e.at, _RANK.get(e.kind, 5), e.seq or 0))
    return Timeline(run, events, lives)


def _origin(run: RunDetail) -> str:
    parts = [
        f"version {run.version} in queue {run.queue}",
        "" if run.parent_id is None else f"started by run {run.parent_id}",
        "" if run.schedule is None else f"started by schedule {run.schedule!r}",
        "" if run.origin is None else f"a fork of run {run.origin}",
        f"generation {run.generation}: continued as new" if run.generation else "",
    ]
    return "; ".join(filter(None, parts))


# Claims


def _claims(run: RunDetail, entries: Sequence[Any]) -> list[Event]:
    spans: dict[int, list[Any]] = {}
    for row in entries:
        spans.setdefault(row["claim"], []).append(row)
    found = []
    last = run.created_at
    for number in range(1, run.claim + 1):
        rows = spans.get(number, [])
        current = number == run.claim
        began = [row["started_at"] for row in rows if row["kind"] in (STEP, ATTEMPT)]
        began += [row["at"] for row in rows]
        at = min(began, default=last)
        if current and run.claimed_at is not None:
            at = run.claimed_at
        elif not rows:
            continue  # it recorded nothing: the number alone would tell nothing of when
        ended = max((row["at"] for row in rows), default=None)
        running = current and run.status == "running"
        worker = run.worker_id if running else rows[0]["worker_id"] if rows else None
        found.append(
            Event(
                kind="claim", at=at, ended_at=None if running else max(ended or at, at),
                name=f"claim {number}", claim=number, worker_id=worker,
                detail=_recorded(len(rows)),
            )
        )  # fmt: skip
        last = ended or at
    return found


def _recorded(entries: int) -> str:
    return f"{entries} entries recorded" if entries != 1 else "1 entry recorded"


# Entries


class _Reader:
    """Takes payloads out of rows."""

    def __init__(self, decoding: Decoding, payloads: bool) -> None:
        self._decoding, self.payloads = decoding, payloads

    def value(self, row: Any) -> Any:
        return self._read(lambda: self._decoding.decode(row["value"]))

    def signal(self, row: Any) -> Any:
        return self._read(lambda: self._decoding.decode_signal(row["name"], row["payload"]))

    def _read(self, text: Any) -> Any:
        try:
            found = text()
        except PayloadError as error:
            return {"unreadable": str(error)}
        return None if found is None else json.loads(found)


def _entries(rows: Sequence[Any], children: dict[str, Any], reader: _Reader) -> list[Event]:
    attempts: dict[str, list[Attempt]] = {}
    found: list[Event] = []
    noted: dict[str, Any] = {}
    for row in rows:
        if row["kind"] == ATTEMPT:
            step = row["key"].rpartition("#")[0]
            attempts.setdefault(step, []).append(_attempt(row, reader))
            noted[step] = row
    done = {row["key"] for row in rows if row["kind"] == STEP}
    for row in rows:
        if row["kind"] != ATTEMPT:
            before = attempts.get(row["key"], [])
            found.append(_event(row, before, children.get(row["key"]), reader))
    found += [_open_step(noted[key], tried) for key, tried in attempts.items() if key not in done]
    return found


def _attempt(row: Any, reader: _Reader) -> Attempt:
    note = reader.value(row) or {}
    retry_at = note.get("resume_at")
    return Attempt(
        row["attempt"], row["started_at"], row["at"],
        failure(json.dumps(note.get("error") or note)) if reader.payloads else _HIDDEN,
        None if retry_at is None else datetime.fromtimestamp(retry_at, UTC),
        row["worker_id"],
    )  # fmt: skip


_HIDDEN = RecordedFailure("", "")


def _open_step(row: Any, attempts: list[Attempt]) -> Event:
    return Event(
        kind="step", at=attempts[0].started_at, name=row["name"],
        key=row["key"].rpartition("#")[0], seq=row["seq"], claim=row["claim"],
        worker_id=row["worker_id"], failed=False, attempts=tuple(attempts),
        error=attempts[-1].error, compensation=_compensates(row),
        detail=f"attempt {attempts[-1].number} failed; the next was due at "
        f"{moment(attempts[-1].retry_at)}",
    )  # fmt: skip


def _event(row: Any, before: list[Attempt], child: Any, reader: _Reader) -> Event:
    kind = _KINDS.get(row["kind"], "effect")
    value = reader.value(row) if reader.payloads or kind in ("wait", "cancel") else None
    error = None
    if row["failed"] and kind != "wait" and reader.payloads:
        error, value = failure(json.dumps(value)), None
    attempts: tuple[Attempt, ...] = ()
    if kind == "step":
        last = Attempt(
            row["attempt"], row["started_at"], row["at"],
            (error or _HIDDEN) if row["failed"] else None, None, row["worker_id"],
        )  # fmt: skip
        attempts = (*before, last)
    at = min([row["started_at"], row["at"], *(a.started_at for a in attempts)])
    detail, value = _detail(kind, row, value, child, reader)
    return Event(
        kind=kind, at=at, ended_at=row["at"], name=row["name"], key=row["key"], seq=row["seq"],
        claim=row["claim"], worker_id=row["worker_id"], failed=row["failed"], attempts=attempts,
        error=error, value=value, compensation=_compensates(row), detail=detail,
        run_id=None if child is None else plain_id(child["id"]),
    )  # fmt: skip


def _compensates(row: Any) -> bool:
    return bool(row["key"].startswith("!rollback."))


def _detail(kind: EventKind, row: Any, value: Any, child: Any, reader: _Reader) -> tuple[str, Any]:
    """Return what else there is to say of an entry, and its value without what that says."""
    if kind == "wait":
        if row["failed"]:
            return "no signal came in time", None
        if isinstance(value, list) and len(value) == 3:
            number, name, payload = value
            return f"took signal {number}, {name!r}", payload if reader.payloads else None
    if kind == "cancel":
        reason = value.get("reason") if isinstance(value, dict) else None
        return reason or "asked to cancel", None
    if kind == "child" and child is not None:
        return f"it is {child['status']} now", value
    return "", value


def _signal(row: Any, reader: _Reader) -> Event:
    return Event(
        kind="signal", at=row["sent_at"], ended_at=row["sent_at"], name=row["name"],
        key=row["key"], value=reader.signal(row) if reader.payloads else None,
        detail=f"signal {row['no']}, {'taken' if row['taken'] else 'not taken yet'}",
    )  # fmt: skip


# Workers and the present


def _deaths(entries: Sequence[Any], lives: dict[int, WorkerLife]) -> list[Event]:
    """Return the ends of workers that came while others had still to go on with the run."""
    found = []
    held = dict.fromkeys(row["worker_id"] for row in entries)
    for worker_id in held:
        life = lives.get(worker_id)
        last = max(row["at"] for row in entries if row["worker_id"] == worker_id)
        later = any(row["at"] > last for row in entries)
        if life is not None and life.ended_at is not None and later:
            found.append(
                Event(
                    kind="worker_ended", at=life.ended_at, ended_at=life.ended_at,
                    name=life.name, worker_id=life.id, failed=life.end_reason == "gone",
                    detail=life.end_reason or "",
                )
            )  # fmt: skip
    return found


def _standing(run: RunDetail, entries: Sequence[Any]) -> list[Event]:
    moved = max((row["at"] for row in entries), default=run.started_at or run.created_at)
    if run.finished_at is not None:
        return [
            Event(
                kind="ended", at=run.finished_at, ended_at=run.finished_at, name=run.status,
                failed=run.status != "succeeded", error=run.error, value=run.output,
            )
        ]  # fmt: skip
    if run.status == "paused":
        who = "halted: it stands still until an operator acts" if run.halted else "paused"
        by = f" by {run.paused_by}" if run.paused_by and not run.halted else ""
        at = moved if run.halted else run.paused_at or moved
        return [Event(kind="paused", at=at, name=run.status, error=run.error, detail=who + by)]
    if run.status == "waiting" and run.waiting_for:
        until = "" if run.due_at is None else f"until {moment(run.due_at)} at the latest"
        return [Event(kind="waiting", at=moved, name=run.waiting_for, detail=until)]
    return []


def moment(at: datetime | None) -> str:
    """Return a moment as sentences have it: UTC, to the second."""
    return "an unknown time" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Runs as they are shown: in a list, and alone with their payloads."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from forktex_core.flow.errors import PayloadError

type Decode = Callable[[str | None], str | None]


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """An error as it was recorded.

    Attributes:
        type: qualified name of the exception's type.
        message: its text; the first 500 characters in a list.
        traceback: empty in a list.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as a list shows it, without input and output.

    Attributes:
        key: on whose account it runs in its queue.
        due_at: when it may be claimed next; None when nothing but an event moves it.
        worker_id: the worker that executes it now.
        claim: how often it was claimed.
        generation: how often it continued as new.
        waiting_for: what it waits for, in words.
        metadata: what start() was given.
        origin: the run that a fork came from.
        error: how it failed, was cancelled or was halted.
        paused_by: who paused it, when it is paused and pause() was told.
        columns: what an extension added to the row.
    """

    id: UUID
    workflow: str
    version: int
    queue: str
    key: str | None
    priority: int
    status: str
    due_at: datetime | None
    worker_id: int | None
    claim: int
    generation: int
    waiting_for: str | None
    metadata: dict[str, Any]
    idempotency_key: str | None
    deduplication_key: str | None
    parent_id: UUID | None
    schedule: str | None
    origin: UUID | None
    created_at: datetime
    started_at: datetime | None
    claimed_at: datetime | None
    deadline_at: datetime | None
    finished_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    error: RecordedFailure | None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def halted(self) -> bool:
        """Whether it stands still with an error until an operator acts."""
        return self.status == "paused" and self.error is not None

    @property
    def duration(self) -> timedelta | None:
        """From its first claim to its end; None while it has not both."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(RunInfo):
    """A run with its payloads, as JSON has them.

    Attributes:
        input: what the body takes.
        output: what it returned, None when it has not succeeded.
        timeout: seconds that it was given, from when it was due.
        unreadable: why payloads are missing, if the codec at hand can't decode them.
    """

    lane: str
    input: Any
    output: Any
    timeout: float | None
    unreadable: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        runs: in the order that was asked for.
        next: the cursor of the following page; None when this is the last.
    """

    runs: list[RunInfo]
    next: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """How many runs there are, by several of their properties."""

    total: int
    by_status: dict[str, int]
    by_workflow: dict[str, int]
    by_queue: dict[str, int]
    cells: list[tuple[str, str, str, int]]
    """(status, workflow, queue, runs) of every combination that there is."""


_GIVEN = frozenset({"metadata", "error", "columns", "id", "parent_id", "origin"})
_PLAIN = tuple(f.name for f in fields(RunInfo) if f.name not in _GIVEN)


def run_info(row: Any, decode: Decode, columns: Sequence[str]) -> RunInfo:
    """Return a row of a listing."""
    try:
        error = failure(decode(row["error"]))
    except PayloadError as fault:
        error = RecordedFailure("unreadable", str(fault))
    return RunInfo(**_shared(row, columns), error=error)


def run_detail(row: Any, decode: Decode, columns: Sequence[str]) -> RunDetail:
    """Return a run with its payloads."""
    unreadable = None
    error = given = output = None
    try:
        error = failure(decode(row["error"]))
        given, output = value(decode(row["input"])), value(decode(row["output"]))
    except PayloadError as fault:
        unreadable = str(fault)
    return RunDetail(
        **_shared(row, columns), error=error, lane=row["lane"], input=given, output=output,
        timeout=None if row["timeout"] is None else row["timeout"].total_seconds(),
        unreadable=unreadable,
    )  # fmt: skip


def _shared(row: Any, columns: Sequence[str]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _PLAIN},
        "id": plain_id(row["id"]),
        "parent_id": plain_id(row["parent_id"]),
        "origin": plain_id(row["origin"]),
        "metadata": json.loads(row["metadata"]),
        "columns": {name: row[name] for name in columns},
    }


def plain_id(found: Any) -> Any:
    """Return a driver's UUID as Python's own."""
    return None if found is None else UUID(bytes=found.bytes)


def value(text: str | None) -> Any:
    """Return what a JSON text stands for."""
    return None if text is None else json.loads(text)


def failure(text: str | None) -> RecordedFailure | None:
    """Return a recorded error."""
    record = value(text)
    if not isinstance(record, dict):
        return None if record is None else RecordedFailure("unreadable", str(record)[:500])
    return RecordedFailure(
        record.get("type") or "", record.get("message") or "", record.get("traceback") or ""
    )

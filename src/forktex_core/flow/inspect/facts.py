# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What explain() decides from: one run and its surroundings, read at nearly one moment."""

import ast
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from forktex_core.flow.errors import PayloadError, RunNotFoundError
from forktex_core.flow.inspect.rows import RecordedFailure, RunDetail, failure, value
from forktex_core.flow.replay import ATTEMPT, STEP
from forktex_core.flow.store.inspection import InspectionStore

_LABEL = re.compile(r"""(\w+) ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


@dataclass(frozen=True, slots=True)
class OpenRetry:
    """A step whose last attempt failed, and which is to be tried again."""

    step: str
    attempt: int
    retry_at: datetime
    error: RecordedFailure | None


@dataclass(frozen=True, slots=True)
class Facts:
    """See the top of the file. ``row`` is what the query ``inspect_standing`` returns."""

    run: RunDetail
    row: Any
    here: datetime
    """The time of this process when the database said ``row['now']``."""
    servers: list[Any] = field(default_factory=list)
    """Living workers that serve the queue."""
    lane_servers: list[Any] = field(default_factory=list)
    """Living workers that serve the workflow and version, in whatever queue."""
    queue_holders: list[Any] = field(default_factory=list)
    key_holders: list[Any] = field(default_factory=list)
    retries: list[OpenRetry] = field(default_factory=list)
    children: list[Any] = field(default_factory=list)
    untaken: list[str] = field(default_factory=list)
    """Names of signals in the inbox."""

    @property
    def now(self) -> datetime:
        """The database's time."""
        return self.row["now"]  # type: ignore[no-any-return]

    @property
    def waits(self) -> list[tuple[str, str]]:
        """(kind, name) of the calls that the run waits for."""
        return waits(self.run.waiting_for)


def waits(label: str | None) -> list[tuple[str, str]]:
    """Return (kind, name) of each call in the words of a run's ``waiting_for``."""
    return [(kind, ast.literal_eval(name)) for kind, name in _LABEL.findall(label or "")]


async def gather(store: InspectionStore, run: RunDetail) -> Facts:
    """Read what there is to know about a run."""
    row = await store.standing(run.id)
    if row is None:
        raise RunNotFoundError(run.id)
    here = datetime.now(UTC)
    if run.finished_at is not None:
        return Facts(run, row, here)
    entries = await store.entries(run.id, -1)
    return Facts(
        run, row, here,
        servers=await store.servers(run.queue),
        lane_servers=await store.servers_of_lane(run.lane),
        queue_holders=await store.holders(run.queue, None) if row["concurrency"] else [],
        key_holders=await store.holders(run.queue, run.key)
        if row["per_key"] and run.key is not None else [],
        retries=open_retries(store, entries),
        children=[c for c in await store.children(run.id) if c["finished_at"] is None],
        untaken=[s["name"] for s in await store.signals(run.id) if not s["taken"]],
    )  # fmt: skip


def open_retries(store: InspectionStore, entries: list[Any]) -> list[OpenRetry]:
    """Return the steps that failed and are to be tried again, by the journal."""
    done = {row["key"] for row in entries if row["kind"] == STEP}
    noted = {r["key"].rpartition("#")[0]: r for r in entries if r["kind"] == ATTEMPT}
    found = []
    for key, row in noted.items():
        if key in done:
            continue
        try:
            note = value(store.decode(row["value"])) or {}
        except PayloadError:
            continue
        at = note.get("resume_at")
        if at is None:
            # What a codec can't encode is replaced by a plain note without a time.
            continue
        error = None if note.get("error") is None else failure(json.dumps(note["error"]))
        found.append(OpenRetry(row["name"], row["attempt"], datetime.fromtimestamp(at, UTC), error))
    return found

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What goes into the statements that start runs, and what the claim statement brings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from forktex_core.flow.replay import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    """What runs that are about to be started have in common. Times are seconds, moments are seconds
    since the epoch.
    """

    workflow: str
    version: int
    lane: str
    queue: str
    priority: int
    due: float | None
    delay: float | None
    metadata: str
    key: str | None
    timeout: float | None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun(_New):
    """A run that is about to be started."""

    id: UUID
    input: str
    idempotency_key: str | None
    deduplication_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRuns(_New):
    """Runs of one definition that are about to be started."""

    ids: list[UUID]
    inputs: list[str]


@dataclass(slots=True)
class Signal:
    """One signal in a run's inbox."""

    no: int
    name: str
    payload: str | None
    sent_at: float
    fault: Exception | None = None


@dataclass(slots=True)
class Claimed:
    """A run as it was claimed: its row, its journal when the worker doesn't hold it warm, and its
    inbox.
    """

    run_id: Any
    workflow: str
    version: int
    queue: str
    claim: int
    signal_seq: int
    input: str | None
    started_at: float
    parent_id: Any
    parent_key: str | None
    metadata: str
    generation: int = 0
    entries: list[Entry] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    limited: bool = False
    seed: str = ""
    fault: Exception | None = None

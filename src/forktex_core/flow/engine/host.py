# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What an execution needs of its worker."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from forktex_core.flow.engine.outcome import Outcome
from forktex_core.flow.replay import Entry
from forktex_core.flow.store.effects import Effect, NewValue, Woken
from forktex_core.flow.workflow import Registry

if TYPE_CHECKING:
    from forktex_core.flow.engine.execution import Execution
    from forktex_core.flow.engine.transaction import Transactions


class Host(Protocol):
    """What an execution needs of its worker."""

    real_loop: asyncio.AbstractEventLoop
    registry: Registry
    transactions: "Transactions"
    max_payload: int
    hold: float
    draining: bool

    @property
    def worker_id(self) -> int:
        """The id of the worker's present life."""

    def now(self) -> float:
        """Return the database's time, seconds since the epoch."""

    def woke(self, execution: "Execution") -> None:
        """Call the execution's advance() soon, from the real loop and outside of every task (a
        body's tasks can't run within one of the worker's).
        """
        self.real_loop.call_soon(execution.advance)

    def append(
        self, execution: "Execution", entry: Entry, taken: int | None, effects: Sequence[Effect]
    ) -> None:
        """Hand an entry to the journal writer; committed() or refused() follows."""

    def show(self, value: NewValue) -> None:
        """Publish a value some time soon, the latest for its key."""

    def finish(self, execution: "Execution", result: Outcome) -> None:
        """End the run."""

    def park(self, execution: "Execution", due: float | None, waiting_for: str) -> None:
        """Give the claim back until ``due``, or until a signal comes."""

    def lost(self, execution: "Execution") -> None:
        """Drop an execution whose claim turned out to be lost."""

    def woken(self, woken: list[Woken]) -> None:
        """Tell those whom a committed statement concerns."""

    def release(self, execution: "Execution") -> None:
        """Give the claim back for another worker to go on at once."""

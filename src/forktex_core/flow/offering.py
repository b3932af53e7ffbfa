# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Signals to graphs whose sender wants to know what became of them, and where a graph's run is."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from forktex_core.flow.control import Control
from forktex_core.flow.errors import RunFinishedError, RunNotFoundError
from forktex_core.flow.gate import guarded
from forktex_core.flow.graph.payload import RECEIPT
from forktex_core.flow.graph.walk import POSITION
from forktex_core.flow.retry import seconds
from forktex_core.flow.shown import Shown

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5
_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a signal to a graph.

    Args:
        outcome: ``taken``, ``deferred``, ``rejected``, or ``rejected: `` and why.
        state: the state that the run was in, inside of others as ``outer/inner``.
    """

    outcome: str
    state: str

    @property
    def taken(self) -> bool:
        """Whether a transition took it."""
        return self.outcome == "taken"


@dataclass(frozen=True, slots=True)
class GraphPosition:
    """Where a run of a graph is, or was when it ended.

    Args:
        state: the state of the outermost graph.
        payload: the payload there.
        path: the states entered, the latest last, 200 at most.
        taken: how many transitions were taken.
        regions: where the graphs inside of the state are, by region.
    """

    state: str
    payload: Any
    path: list[str]
    taken: int
    regions: dict[str, Any]


class Offering(Control, Shown):
    """The part of Flow that speaks to runs of graphs."""

    @guarded("signal")
    async def offer_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        timeout: float | timedelta = 30.0,
    ) -> Receipt:
        """Send a signal to a run of a graph and wait until the run has looked at it.

        Args:
            run_id: the run.
            name: the signal.
            payload: as in send_signal().
            timeout: seconds (or a timedelta) to wait. The signal stays sent beyond it.

        Raises:
            TimeoutError: nobody has looked at it yet: it is kept in the inbox.
            RunFinishedError: the run had ended, or ended before it looked at the signal.
            RunNotFoundError, PayloadError, DefinitionError: as in send_signal().
        """
        number = str(uuid4())
        await self.send_signal(run_id, name, {RECEIPT: number, "payload": payload})
        deadline = time.monotonic() + seconds(timeout)
        pause = _FIRST_PAUSE
        while (answer := await self.published(run_id, f"{RECEIPT}:{number}")) is None:
            await self._still_runs(run_id, name, number)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"run {run_id} has not looked at signal {name!r} yet: it stays in the inbox"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return Receipt(**answer)

    async def _still_runs(self, run_id: UUID | str, name: str, number: str) -> None:
        row = await self._open.store.run_status(UUID(str(run_id)))
        if row is None:
            raise RunNotFoundError(UUID(str(run_id)))
        if row["status"] in _ENDED and not await self.published(run_id, f"{RECEIPT}:{number}"):
            raise RunFinishedError(row["id"], row["status"], f"it did not look at signal {name!r}")

    @guarded("read")
    async def graph_position(self, run_id: UUID | str) -> GraphPosition | None:
        """Return where a run of a graph is; None for a run that has not shown it yet, or is none of
        a graph. Exact where the run waits; between automatic states up to a tenth of a second old.

        Raises:
            RunNotFoundError: there is no such run.
        """
        found = await self.published(run_id, POSITION)
        if found is None:
            return None
        return GraphPosition(
            found["state"], found["payload"], found["path"], found["taken"],
            found.get("regions", {}),
        )  # fmt: skip

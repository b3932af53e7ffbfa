# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which status a run may go to from which: the one pure function, and the table that the database
holds as well.

::

    pending ─claim─▶ running ─▶ succeeded | failed | cancelled
       ▲                │ ▲
       │            park│ │claim
       │                ▼ │
       ├──release──── waiting          any unfinished ─▶ paused ─resume─▶ pending | waiting
       └──retry────── failed | cancelled
"""

from typing import Literal
from uuid import UUID

from forktex_core.flow.errors import FlowError

type Status = Literal["pending", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

LEGAL: dict[str, frozenset[str]] = {
    "pending": frozenset({"running", "paused", "failed", "cancelled"}),
    "running": frozenset({"pending", "waiting", "paused", "succeeded", "failed", "cancelled"}),
    "waiting": frozenset({"pending", "running", "paused", "failed", "cancelled"}),
    "paused": frozenset({"pending", "waiting", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"pending"}),
    "cancelled": frozenset({"pending"}),
}


class IllegalTransitionError(FlowError):
    """A run can't go from one status to another."""

    def __init__(
        self, before: str, after: str, run_id: UUID | None = None, why: str | None = None
    ) -> None:
        self.before, self.after, self.run_id = before, after, run_id
        if why is not None:
            super().__init__(f"run {run_id} is {before}: {why}")
            return
        allowed = ", ".join(sorted(LEGAL.get(before, ()))) or "nothing: it is final"
        which = f"a {before} run" if run_id is None else f"run {run_id} is {before} and"
        super().__init__(f"{which} can't become {after}: from there it may become {allowed}")


def next_status(before: str, after: str) -> str:
    """Return ``after`` when a run may go there from ``before``; raise IllegalTransitionError
    otherwise.
    """
    if after not in LEGAL.get(before, ()):
        raise IllegalTransitionError(before, after)
    return after

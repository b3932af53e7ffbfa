# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries that act on runs from outside, one typed method each."""

from typing import Any
from uuid import UUID

from forktex_core.flow.store.base import Queries


class ControlStore(Queries):
    """Pausing, resuming, setting back and forking runs. Each returns a row with its outcome."""

    async def pause_run(self, run_id: UUID, by: str | None) -> Any:
        """Pause an unfinished run; return outcome, status and held_by."""
        return await self._row("pause_run", run_id, by)

    async def resume_run(self, run_id: UUID) -> Any:
        """Let a paused run go on; return outcome, status and queue."""
        return await self._row("resume_run", run_id)

    async def rewind_run(
        self, run_id: UUID, claim: int, from_seq: int | None, statuses: list[str]
    ) -> Any:
        """Set a run back to before an entry, if it stands as the caller saw it; return outcome,
        status, held_by and queue.
        """
        return await self._row("rewind_run", run_id, claim, from_seq, statuses)

    async def fork_run(self, run_id: UUID, *columns: Any) -> Any:
        """Make a new run with the journal up to an entry; return outcome, run_id and queue."""
        return await self._row("fork_run", run_id, *columns)

    async def unserved(self) -> list[Any]:
        """Return unfinished runs that no living worker serves, by workflow, version and queue."""
        return await self._rows("unserved")

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries about schedules, one typed method each."""

from datetime import datetime
from typing import Any
from uuid import UUID

from forktex_core.flow.store.base import Queries


class ScheduleStore(Queries):
    """Schedules and what they start."""

    async def put_schedule(self, *columns: Any) -> None:
        """Make a schedule, or change the one of that name."""
        await self._rows("put_schedule", *columns)

    async def schedules(self, name: str | None = None) -> list[Any]:
        """Return all schedules, or one."""
        return await self._rows("schedules", name)

    async def due_schedules(self) -> list[Any]:
        """Return the schedules whose next time has come."""
        return await self._rows("due_schedules")

    async def fire_schedule(self, *columns: Any) -> list[str] | None:
        """Start what is due, note what comes next; None when term or revision are past."""
        return (await self._row("fire_schedule", *columns))["outcomes"]  # type: ignore[no-any-return]

    async def start_scheduled(
        self, name: str, run_id: UUID, due: datetime, *, version: int, lane: str, overlap: str
    ) -> str:
        """Start one run of a schedule; return started, queued, skipped or duplicate."""
        row = await self._row("start_scheduled", name, run_id, due, version, lane, overlap)
        return row["outcome"]  # type: ignore[no-any-return]

    async def pause_schedule(self, name: str, next_at: datetime | None, *, paused: bool) -> bool:
        """Pause or resume a schedule; False when there is none."""
        return await self._row("pause_schedule", name, paused, next_at) is not None

    async def delete_schedule(self, name: str) -> bool:
        """Remove a schedule; False when there is none."""
        return await self._row("delete_schedule", name) is not None

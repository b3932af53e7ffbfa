# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries about queues, one typed method each."""

from typing import Any

from forktex_core.flow.store.base import Queries


class QueueStore(Queries):
    """The limits of queues."""

    async def ensure_queue(self, name: str) -> None:
        """Give a queue its row, as one needs that is used with keys."""
        await self._rows("ensure_queue", name)

    async def set_queue(self, *columns: Any) -> None:
        """Set name, concurrency, per_key, rate and its period."""
        await self._rows("set_queue", *columns)

    async def pause_queue(self, name: str, *, paused: bool) -> None:
        """Pause or resume a queue."""
        await self._rows("pause_queue", name, paused)

    async def queues(self, name: str | None = None) -> list[Any]:
        """Return the queues that have a row, or one of them."""
        return await self._rows("queues", name)

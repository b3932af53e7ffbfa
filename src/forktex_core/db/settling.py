# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Running a clean-up to its end although the task that wants it is being cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Settling:
    """Clean-ups that outlive a cancellation.

    A cancelled task may be cancelled again while it awaits its own clean-up (anyio does so on
    every turn of the loop). The clean-up therefore runs as a task of its own, which `run` awaits
    as long as it is allowed to, and `wait` awaits at the end of the resource's life.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, cleanup: Coroutine[Any, Any, None]) -> None:
        """Run `cleanup`; a cancellation of the caller leaves it running."""
        task = asyncio.create_task(cleanup)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def wait(self) -> None:
        """Wait for those that are still running, save the one that asks."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A batch: jobs that were enqueued together and whose ends are counted together."""

from collections.abc import Sequence
from typing import Any, ClassVar

from forktex_core.queue.handle import Access, Job


class Batch:
    """A handle on a batch and its ``jobs``."""

    MOST: ClassVar[int] = 10_000

    def __init__(self, batch_id: str, jobs: Sequence[Job[Any]], access: Access) -> None:
        self.id, self.jobs = batch_id, jobs
        self._access = access

    async def left(self) -> int:
        """How many of its jobs have not ended yet."""
        key = f"{self._access.root}:b:{self.id}"
        return int(await self._access.wire.insist(("HGET", key, "left")) or 0)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Dropping runs that were taken from this worker.

Only when no claim is under way (its answer may hold one of them) and no flush (it may hold an entry
of one) may they be claimed again.

Which they are is read anew here: what a tick or a notification said may be older than a claim, and
would drop a run that was rightly claimed again since.
"""

import asyncio
import functools
from collections.abc import Callable
from uuid import UUID

from forktex_core.flow.engine.journal import JournalWriter
from forktex_core.flow.engine.outage import Outage
from forktex_core.flow.store.store import Store


class Revoking:
    """See the top of the file.

    Args:
        store: queries on the pool.
        claiming: held while a claim is under way.
        journal: the worker's journal writer.
        worker_id: returns the id of the worker's present life.
        drop: forgets a run.
        on_done: called when runs may be claimed again.
        outage: told of what fails.
    """

    def __init__(
        self,
        store: Store,
        claiming: asyncio.Lock,
        journal: JournalWriter,
        *,
        worker_id: Callable[[], int],
        drop: Callable[[UUID], None],
        on_done: Callable[[], None],
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._store, self._claiming, self._journal = store, claiming, journal
        self._worker_id, self._drop, self._on_done = worker_id, drop, on_done
        self.check = asyncio.Event()

    async def run(self) -> None:
        """Drop for ever, whenever ``check`` is set."""
        while True:
            await self.check.wait()
            self.check.clear()
            async with self._claiming:
                worker = self._worker_id()
                runs: list[UUID] = await self._outage.wait_out(
                    "revocations", functools.partial(self._store.revoked_runs, worker)
                )
                for run_id in runs:
                    self._drop(run_id)
                await self._journal.settled()
                await self._outage.wait_out(
                    "revocations",
                    functools.partial(self._store.acknowledge_revoked, worker, runs),
                )
            self._on_done()

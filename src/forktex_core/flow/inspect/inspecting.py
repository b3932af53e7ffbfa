# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The part of Flow that looks."""

from typing import TYPE_CHECKING, cast
from uuid import UUID

from forktex_core.flow.client import Client
from forktex_core.flow.gate import guarded

# Whoever doesn't look doesn't load it: flow's own import is measured.
if TYPE_CHECKING:
    from forktex_core.flow.flow import Flow
    from forktex_core.flow.inspect.doctor import Examination
    from forktex_core.flow.inspect.fleet import Fleet
    from forktex_core.flow.inspect.runs import Runs


class Inspecting(Client):
    """What a Flow knows of its runs and workers."""

    _dsn: str
    _direct_dsn: str | None
    _pooled: bool

    @property
    def runs(self) -> "Runs":
        """A query for all runs, the newest first: ``flow.runs.where(status="failed").page(20)``."""
        from forktex_core.flow.inspect.runs import Reading, Runs

        return Runs(Reading(self))

    @property
    def fleet(self) -> "Fleet":
        """Who works: workers, leader, what they serve, and what queues have to do."""
        from forktex_core.flow.inspect.fleet import Fleet

        return Fleet(self)

    @guarded("read")
    async def history(self, run_id: UUID | str) -> str:
        """Return a run's journal as JSON, as ``forktex_core.flow.replayer`` replays it for ever.

        Raises:
            RunNotFoundError: there is no such run, or it has not begun.
            ValueError: the id is none.
        """
        from forktex_core.flow.inflight import Journals

        run = await self.runs.get(run_id)
        flow = cast("Flow", self)
        dsn, settings = self._direct_dsn or self._dsn, dict(self._open.store.view.settings)
        async with Journals.reading(flow, dsn, settings) as journals:
            return (await journals.read(run.id)).to_json()

    @guarded("fleet.read")
    async def examine(self) -> "Examination":
        """Look for what is wrong with the database, the workers and the runs; see
        ``forktex-flow doctor``. It takes a look at every unfinished run.
        """
        from forktex_core.flow.inspect.doctor import examine

        return await examine(self._open.inspection, self.schema, pooled=self._pooled)

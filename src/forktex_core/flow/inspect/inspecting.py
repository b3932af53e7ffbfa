# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The part of Flow that looks."""

from typing import TYPE_CHECKING, cast
from uuid import UUID

from forktex_core.flow.client import Client
from forktex_core.flow.inspect.doctor import Examination, examine
from forktex_core.flow.inspect.fleet import Fleet
from forktex_core.flow.inspect.runs import Reading, Runs

if TYPE_CHECKING:
    from forktex_core.flow.flow import Flow


class Inspecting(Client):
    """What a Flow knows of its runs and workers."""

    _dsn: str
    _direct_dsn: str | None
    _pooled: bool

    @property
    def runs(self) -> Runs:
        """A query for all runs, the newest first: ``flow.runs.where(status="failed").page(20)``."""
        return Runs(Reading(lambda: self._open.inspection, self.schema, lambda: self._open.streams))

    @property
    def fleet(self) -> Fleet:
        """Who works: workers, leader, what they serve, and what queues have to do."""
        return Fleet(lambda: self._open.inspection)

    async def history(self, run_id: UUID | str) -> str:
        """Return a run's journal as JSON, as ``forktex_core.flow.replayer`` replays it for ever.

        Raises:
            RunNotFoundError: there is no such run, or it has not begun.
            ValueError: the id is none.
        """
        from forktex_core.flow.inflight import Journals

        run = await self.runs.get(run_id)
        flow = cast("Flow", self)
        async with Journals.reading(flow, self._direct_dsn or self._dsn) as journals:
            return (await journals.read(run.id)).to_json()

    async def examine(self) -> Examination:
        """Look for what is wrong with the database, the workers and the runs; see
        ``forktex-flow doctor``. It takes a look at every unfinished run.
        """
        return await examine(self._open.inspection, self.schema, pooled=self._pooled)

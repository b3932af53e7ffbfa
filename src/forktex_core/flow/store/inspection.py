# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queries that look at runs and workers, one typed method each. They change nothing."""

from typing import Any
from uuid import UUID

from forktex_core.flow.store.base import Codec, Queries
from forktex_core.flow.store.connection import Pool
from forktex_core.flow.store.passage import Passage

# A plan that was made for other values may read everything; making one costs a millisecond.
_LOOKING = "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL statement_timeout = '30s'"
_ORDERED = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"


class InspectionStore(Queries):
    """What views, the command line and the dashboard read."""

    def __init__(
        self, pool: Pool, schema: str, codec: Codec | None = None, passage: Passage | None = None
    ) -> None:
        super().__init__(pool, schema, codec, passage)
        self._pool = pool

    @property
    def encodes(self) -> bool:
        """Whether values are stored as a codec made them."""
        return self._codec is not None

    async def look(self, sql: str, parameters: list[Any], *, ordered: bool) -> list[Any]:
        """Run a statement that inspect/statement.py made, in a transaction of its own that changes
        nothing and takes half a minute at most.

        Args:
            sql: the statement.
            parameters: its parameters.
            ordered: it walks indexes in their order: the planner, which can't know how soon such a
                walk has enough, must not read all of a range and sort it.
        """
        settings = f"{_LOOKING}; {_ORDERED}" if ordered else _LOOKING
        async with (
            self._pool.connection() as connection,
            connection.transaction(readonly=True),
        ):
            await connection.execute(settings)
            for setting, value in self.view.settings:
                await connection.fetch("SELECT set_config($1, $2, true)", setting, value)
            return await connection.fetch(sql, *parameters)  # type: ignore[no-any-return]

    async def entries(self, run_id: UUID, after: int) -> list[Any]:
        """Return a run's entries behind a number, in their order."""
        return await self._rows("inspect_entries", run_id, after)

    async def signals(self, run_id: UUID) -> list[Any]:
        """Return all that came into a run's inbox."""
        return await self._rows("inspect_signals", run_id)

    async def children(self, run_id: UUID) -> list[Any]:
        """Return the runs that a run started."""
        return await self._rows("inspect_children", run_id)

    async def workers_of(self, ids: list[int]) -> list[Any]:
        """Return these lives of workers."""
        return await self._rows("inspect_workers_of", ids)

    async def pulse(self, run_id: UUID) -> Any:
        """Return what tells that a run moved: its status, claim, generation, inbox and last entry;
        None when there is no such run.
        """
        return await self._row("inspect_pulse", run_id)

    async def standing(self, run_id: UUID) -> Any:
        """Return what explain() needs of a run and its surroundings, in one row."""
        return await self._row("inspect_standing", run_id)

    async def servers(self, queue: str) -> list[Any]:
        """Return the living workers that serve a queue."""
        return await self._rows("inspect_servers", queue)

    async def fleet(self) -> list[Any]:
        """Return the workers that live."""
        return await self._rows("inspect_fleet", None)

    async def servers_of_lane(self, lane: str) -> list[Any]:
        """Return the living workers that serve a lane in whatever queue."""
        return await self._rows("inspect_fleet", lane)

    async def holders(self, queue: str, key: str | None) -> list[Any]:
        """Return the runs that take up the limits of a queue (or of a key in it)."""
        return await self._rows("inspect_holders", queue, key)

    async def lives(self, since_hours: float) -> list[Any]:
        """Return workers that live or ended within so many hours."""
        return await self._rows("inspect_lives", since_hours)

    async def leader(self) -> Any:
        """Return the leader's row with its worker."""
        return await self._row("inspect_leader")

    async def definitions(self) -> list[Any]:
        """Return all workflows and versions that were ever served, and by how many workers now."""
        return await self._rows("inspect_definitions")

    async def depths(self) -> list[Any]:
        """Return what each queue has to do."""
        return await self._rows("inspect_depths")

    async def published(self, run_id: UUID) -> list[Any]:
        """Return all that a run publishes."""
        return await self._rows("inspect_published", run_id)

    async def backends(self) -> tuple[set[int], int]:
        """Return the server processes that answered several statements on one connection, and that
        connection's port on our side.
        """
        async with self._pool.connection() as connection:
            pids = {await connection.fetchval("SELECT pg_backend_pid()") for _ in range(5)}
            transport = connection._transport  # noqa: SLF001 - asyncpg tells it nowhere else
            name = transport.get_extra_info("sockname") if transport is not None else None
        return pids, name[1] if isinstance(name, tuple) else 0

    async def doctor_server(self) -> Any:
        """Return version, settings and connections of the server."""
        return await self._row("doctor_server")

    async def doctor_tables(self, schema: str) -> list[Any]:
        """Return the statistics of the schema's tables."""
        return await self._rows("doctor_tables", schema)

    async def doctor_indexes(self, schema: str) -> list[Any]:
        """Return the indexes that there are."""
        return await self._rows("doctor_indexes", schema)

    async def doctor_transactions(self) -> list[Any]:
        """Return transactions that have been open for ten minutes."""
        return await self._rows("doctor_transactions")

    async def doctor_stuck(self) -> list[Any]:
        """Return how many runs should have moved and did not, by the kind of it."""
        return await self._rows("doctor_stuck")

    async def doctor_stuck_workers(self) -> list[Any]:
        """Return living workers that were not heard of for long."""
        return await self._rows("doctor_stuck_workers")

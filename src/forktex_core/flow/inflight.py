# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which runs in flight would the code at hand not replay? Reads the journals of a database, run by
run, and replays each in memory.

Nothing is written, no migration either: the session is read-only by default, and each run is read
in a read-only transaction of its own, so a long audit doesn't hold vacuum up. What is in memory is
one journal and a page of ids. Pending runs that never began have nothing recorded and are left out.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from forktex_core.flow.errors import DatabaseUnavailableError, NoSchemaError, RunNotFoundError
from forktex_core.flow.replay import Entry
from forktex_core.flow.replayer import Journal, Replayed, Replayer
from forktex_core.flow.store.connection import address, connect, plain_dsn
from forktex_core.flow.store.sql import queries

if TYPE_CHECKING:
    from forktex_core.flow.flow import Flow

_PAGE = 500


async def replay_in_flight(
    flow: "Flow",
    database_url: str,
    *,
    workflows: Sequence[str] = (),
    limit: int | None = None,
    timeout: float = 10.0,
) -> AsyncGenerator[Replayed]:
    """Replay the journals of a database's runs in flight, the oldest first; yield what each showed.

    Args:
        flow: its workflows are the code at hand, its schema is the one that is read.
        database_url: where; a session, not a transaction pooler.
        workflows: names to look at; all that the Flow has by default. Runs of workflows that it
            doesn't have belong to another service.
        limit: runs at most.
        timeout: seconds that one replay may take.

    Raises:
        DatabaseUnavailableError: Postgres can't be reached.
        NoSchemaError: there are no runs of a Flow in it.
    """
    replayer = Replayer(flow.workflows, timeout=timeout)
    names = sorted(workflows or {w.name for w in flow.workflows})
    async with Journals.reading(flow, database_url) as journals:
        last, left = UUID(int=0), limit
        while left is None or left > 0:
            page = await journals.page(last, names, _PAGE if left is None else min(left, _PAGE))
            for run_id in page:
                with contextlib.suppress(RunNotFoundError):  # pruned since
                    journal = await journals.read(run_id)
                    yield await asyncio.to_thread(replayer.replay, journal)
            if not page:
                return
            last = page[-1]
            left = None if left is None else left - len(page)


class Journals:
    """A read-only view of the runs of a database."""

    def __init__(self, connection: Any, schema: str, decode: Callable[[str], str] | None) -> None:
        self._connection, self._sql, self._decode = connection, queries(schema), decode

    @classmethod
    @asynccontextmanager
    async def reading(
        cls, flow: "Flow", database_url: str, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator["Journals"]:
        """Connect, and read runs of a Flow's schema with its payload codec."""
        dsn = plain_dsn(database_url)
        more: dict[str, Any] = {"default_transaction_read_only": "on", **(settings or {})}
        connection = await connect(dsn, "forktex-flow audit", **more)
        codec = getattr(flow, "_codec", None)
        try:
            yield cls(connection, flow.schema, None if codec is None else codec[1])
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            raise NoSchemaError(flow.schema, address(dsn)) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise DatabaseUnavailableError(address(dsn), error) from error
        finally:
            await connection.close(timeout=5)

    async def count(self, workflows: Sequence[str]) -> int:
        """Return how many runs of these workflows are in flight."""
        async with self._transaction():
            found: int = await self._connection.fetchval(self._sql["count_in_flight"], workflows)
        return found

    async def page(self, after: UUID, workflows: Sequence[str], size: int) -> list[UUID]:
        """Return the ids of the next runs in flight."""
        async with self._transaction():
            rows = await self._connection.fetch(self._sql["runs_in_flight"], after, workflows, size)
        return [UUID(bytes=row["id"].bytes) for row in rows]

    async def read(self, run_id: UUID) -> Journal:
        """Return a run and its journal as of one moment; raise RunNotFoundError."""
        async with self._transaction():
            run = await self._connection.fetchrow(self._sql["run_with_output"], run_id)
            rows = await self._connection.fetch(self._sql["journal"], run_id)
        if run is None or run["started_at"] is None:
            raise RunNotFoundError(run_id)
        return Journal(
            run_id=run_id,
            workflow=run["workflow"],
            version=run["version"],
            status=run["status"],
            started_at=run["started_at"].timestamp(),
            input=self._plain(run["input"]),
            output=self._plain(run["output"]),
            generation=run["generation"],
            origin=run["origin"],
            entries=tuple(self._entry(row) for row in rows),
        )

    def _transaction(self) -> Any:
        return self._connection.transaction(isolation="repeatable_read", readonly=True)

    def _plain(self, text: str | None) -> str | None:
        # What a codec made is a JSON string; anything else was written without one.
        if self._decode is None or text is None or not text.startswith('"'):
            return text
        return self._decode(json.loads(text))

    def _entry(self, row: Any) -> Entry:
        return Entry(
            key=row["key"],
            seq=row["seq"],
            kind=row["kind"],
            name=row["name"],
            failed=row["failed"],
            value=self._plain(row["value"]),
            claim=row["claim"],
            attempt=row["attempt"],
            started_at=row["started_at"].timestamp(),
            at=row["at"].timestamp(),
        )

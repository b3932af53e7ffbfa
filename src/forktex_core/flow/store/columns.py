# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Adds the columns of extensions to tables that are in use.

Protocol. Nobody who writes is kept waiting for long, and whatever is interrupted is taken up by the
next open():

1. A column comes with a constant default or none, which Postgres notes without touching a row. Its
   short exclusive lock is asked for with a timeout, and again after a pause: a request that waits
   would make everybody else wait behind it.
2. In one short transaction the columns are noted, and what depends on them is made anew from all
   columns that any extension ever added: the function that hands them on to children, forks and
   scheduled runs, the one that keeps isolated runs apart, the one that notes changes of status.
3. Indexes are built CONCURRENTLY, outside of a transaction. One that an interrupted build left
   behind is invalid: it is dropped and built again.

Processes that open at the same time take turns by a session lock that is tried, never waited for: a
waiting statement holds a snapshot, which a concurrent build in turn waits for.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.extension import Column
from forktex_core.flow.store.parts import part
from forktex_core.flow.store.sql import quote_identifier

_logger = logging.getLogger("forktex_core.flow.migrate")
# With what an index goes on after the column: what lists are ordered by.
_TABLES = {"run": "created_at, id", "schedule": "name"}
_TRIGGERS = ("run_noted_insert", "run_noted_update")
_LOCK_TIMEOUT = "300ms"
_PAUSE = 0.5
_PATIENCE = 120.0


async def add_columns(
    connection: Any, schema: str, columns: Sequence[Column], *, watched: bool, session: bool
) -> None:
    """Bring the tables to what extensions need; do nothing when they are there already.

    Args:
        connection: an asyncpg connection of its own, outside of a transaction.
        schema: the schema of the tables.
        columns: the extensions' columns.
        watched: whether changes of status are to be noted.
        session: whether it is a session of its own, not one behind a transaction pooler.

    Raises:
        DefinitionError: a column of that name is of another type, or the tables lack something
            and can't be changed from here.
    """
    work = _Columns(connection, schema, columns, watched=watched)
    if not await work.missing():
        return
    if not session:
        raise DefinitionError(
            "the columns of extensions can't be added through a transaction pooler: give direct_url"
        )
    try:
        await work.add()
    except asyncpg.InsufficientPrivilegeError as error:
        raise DefinitionError(
            f"schema {schema!r} lacks what the extensions need, and this role can't add it: open "
            "the Flow once as the owner of the tables"
        ) from error


class _Columns:
    def __init__(
        self, connection: Any, schema: str, columns: Sequence[Column], *, watched: bool
    ) -> None:
        self._connection, self._schema = connection, schema
        self._columns, self._watched = columns, watched

    async def missing(self) -> bool:
        """Say whether anything is to be done; raise DefinitionError for another type."""
        known = await self._known()
        for column in self._columns:
            found = known.get(column.name)
            if found is not None and found["type"] != column.sql_type:
                raise DefinitionError(
                    f"column {column.name!r} is {found['type']} in schema {self._schema!r}, not "
                    f"{column.sql_type}: keep its type, or choose another name"
                )
            if found is None or found["isolates"] != column.isolates:
                return True
        for table, column in self._indexed():
            if await self._valid(table, column) is not True:
                return True
        return self._watched and not await self._has_trigger(_TRIGGERS[-1])

    async def add(self) -> None:
        """Do all of it."""
        async with self._turn():
            for column in self._columns:
                await self._add(column)
            await self._patiently(self._make_triggers)
            for table, column in self._indexed():
                await self._build_index(table, column)

    def _indexed(self) -> list[tuple[str, Column]]:
        return [(table, column) for column in self._columns if column.index for table in _TABLES]

    async def _execute(self, name: str, *args: Any, **names: str) -> None:
        await self._connection.execute(part(name, self._schema, **names), *args)

    async def _known(self) -> dict[str, Any]:
        rows = await self._connection.fetch(part("known_columns", self._schema))
        return {row["name"]: row for row in rows}

    async def _has_trigger(self, name: str) -> bool:
        table = f"{quote_identifier(self._schema)}.run"
        query = part("has_trigger", self._schema)
        return bool(await self._connection.fetchval(query, table, name))

    async def _valid(self, table: str, column: Column) -> bool | None:
        """Say whether an index is valid; None when there is none."""
        name = f"{quote_identifier(self._schema)}.{_index(table, column)}"
        query = part("index_valid", self._schema)
        return await self._connection.fetchval(query, name)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        lock, name = self._connection, f"forktex_flow columns:{self._schema}"
        query = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
        while not await lock.fetchval(query, name):  # noqa: ASYNC110 - the lock is the database's
            await asyncio.sleep(_PAUSE)
        try:
            yield
        finally:
            if not lock.is_closed():
                await lock.fetchval("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something in a short transaction, again and again while others hold the locks."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                async with self._connection.transaction():
                    await self._connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                    await work()
            except asyncpg.LockNotAvailableError:
                if time.monotonic() > end:
                    raise
                _logger.info("a long transaction holds the tables of flow: tried again")
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _add(self, column: Column) -> None:
        kind = column.sql_type
        if column.default is not None:
            query = part("default_literal", self._schema, type=kind)
            kind += f" DEFAULT {await self._connection.fetchval(query, column.default)}::{kind}"

        async def work() -> None:
            for table in _TABLES:
                name = quote_identifier(column.name)
                await self._execute("add_column", table=table, column=name, type=kind)

        await self._patiently(work)

    async def _build_index(self, table: str, column: Column) -> None:
        valid = await self._valid(table, column)
        index = _index(table, column)
        if valid is False:
            _logger.warning("index %s is invalid: it is built again", index)
            await self._execute("drop_index", index=index)
        if not valid:
            name = quote_identifier(column.name)
            await self._execute(
                "build_index", index=index, table=table, column=name, then=_TABLES[table]
            )

    async def _make_triggers(self) -> None:
        for column in self._columns:
            await self._execute("note_column", column.name, column.sql_type, column.isolates)
        known = await self._known()
        if known:
            await self._make_inherit(known)
        if self._watched or await self._has_trigger(_TRIGGERS[-1]):
            pairs = ", ".join(f"'{name}', n.{quote_identifier(name)}" for name in known)
            await self._execute("note_changes", pairs=pairs)
        for trigger in _TRIGGERS if self._watched else ():
            if not await self._has_trigger(trigger):
                await self._execute(trigger)

    async def _make_inherit(self, known: dict[str, Any]) -> None:
        names = [quote_identifier(name) for name in known]
        await self._execute(
            "inherit_columns",
            old=", ".join(f"x.{name}" for name in names),
            new=", ".join(f"NEW.{name}" for name in names),
        )
        if not await self._has_trigger("run_inherits"):
            await self._execute("run_inherits")
        apart = [quote_identifier(name) for name, row in known.items() if row["isolates"]]
        differ = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in apart)
        await self._execute("reaches", differ=differ or "false")


def _index(table: str, column: Column) -> str:
    return quote_identifier(f"{table}_by_{column.name}")

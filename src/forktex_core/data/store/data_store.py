# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`DataStore`: the database of a service's registers, and the definitions that this process knows.

How definitions stay true. Each statement on rows carries the register's id, its tenant and the
version that the process knows. A read answers with the version that it found, in the same round
trip; a write takes the register's fence (see `0001_registers.sql`). When the version is another,
the definition is read again and the statement is made anew. So a cached definition needs no expiry
and no message bus: it is checked whenever it is used.

Connections: an operation on a register runs over the session that the register was bound to, inside
its transaction, or over a connection of the database's pool, on which each statement is a
transaction by itself unless the operation opens one.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.data.errors import ConfigurationError, PermissionDeniedError
from forktex_core.data.limits import Limits
from forktex_core.data.store.migrate import migrate, quote
from forktex_core.db import Database, get_database

TENANT_SETTING = "forktex_data.tenant"
PermissionHook = Callable[[str, str, str], bool | Awaitable[bool]]
_MOST_KNOWN = 20_000


class DataStore:
    """The registers of a service in one database.

    `database` is one of `forktex_core.db` (the one named "default" unless given); `schema` the
    library's own schema in it. `cursor_key` signs page cursors: give the same secret to all
    processes. `permit(action, tenant, register)` is asked before each operation on a register;
    actions are `read`, `write`, `define` and `drop`.
    """

    def __init__(
        self,
        database: Database | None = None,
        *,
        schema: str = "forktex_data",
        limits: Limits | None = None,
        cursor_key: bytes = b"",
        permit: PermissionHook | None = None,
    ) -> None:
        if not schema or len(schema) > 63 or "\0" in schema:
            raise ConfigurationError(f"{schema!r} is no name of a schema")
        self._database = database
        self.schema = schema
        self.limits = limits or Limits()
        self.cursor_key = cursor_key
        self._permit = permit
        self.known: dict[tuple[str, str], Any] = {}

    @property
    def database(self) -> Database:
        """The database; raises `NotInitializedError` before `init_engine`."""
        return self._database or get_database()

    def table(self, name: str) -> str:
        """A table of the schema, quoted."""
        return f"{quote(self.schema)}.{quote(name)}"

    async def migrate(self) -> list[str]:
        """Make or upgrade the schema; returns the names of the migrations that were applied."""
        async with self.connection(None, "") as connection:
            return await migrate(connection, self.schema)

    async def check(self, action: str, tenant: str, register: str) -> None:
        """Ask the service's hook; raises `PermissionDeniedError`."""
        if self._permit is None:
            return
        answer = self._permit(action, tenant, register)
        if not (answer if isinstance(answer, bool) else await answer):
            raise PermissionDeniedError(action, register)

    @asynccontextmanager
    async def connection(self, session: AsyncSession | None, tenant: str) -> AsyncIterator[Any]:
        """An asyncpg connection: the session's, in its transaction, or one of the pool."""
        if session is None:
            async with self.database.engine.connect() as pooled:
                yield (await pooled.get_raw_connection()).driver_connection
            return
        joined = await session.connection()
        driver: Any = (await joined.get_raw_connection()).driver_connection
        if not driver.is_in_transaction():
            await joined.exec_driver_sql(
                "SELECT set_config($1, $2, true)", (TENANT_SETTING, tenant)
            )
        yield driver

    @asynccontextmanager
    async def transaction(self, session: AsyncSession | None, tenant: str) -> AsyncIterator[Any]:
        """A connection inside a transaction (a savepoint inside the session's)."""
        async with self.connection(session, tenant) as connection, connection.transaction():
            if session is None:
                await connection.execute("SELECT set_config($1, $2, true)", TENANT_SETTING, tenant)
            yield connection

    def remember(self, key: tuple[str, str], definition: Any) -> None:
        """Keep a definition, within bounds."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        self.known[key] = definition


_default = DataStore()


def default_store() -> DataStore:
    """The store that `Register.load(...)` uses when none is given."""
    return _default


def init_store(
    database: Database | None = None,
    *,
    schema: str = "forktex_data",
    limits: Limits | None = None,
    cursor_key: bytes = b"",
    permit: PermissionHook | None = None,
) -> DataStore:
    """Make the store that `Register.load(...)` uses; arguments as `DataStore`'s."""
    global _default  # noqa: PLW0603 - what `init` in each module does
    _default = DataStore(
        database, schema=schema, limits=limits, cursor_key=cursor_key, permit=permit
    )
    return _default

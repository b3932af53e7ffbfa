# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where statements run: a pool for callers, and links (one connection each, prepared statements)
for a worker's loops.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from forktex_core.flow.errors import DatabaseUnavailableError, PayloadError

# A lost host drops no connection by itself: the server is told to look after its side of the wire.
_KEEPALIVE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_REFUSED = ("22", "23", "54")
# Classes of errors by which the server says that it can't work now: connections, resources (a full
# disk), an operator's intervention, the system. And what a standby says that was the primary.
_OUTAGE = ("08", "53", "57", "58")
_READ_ONLY, _CANCELLED = "25006", "57014"


class Statements(Protocol):
    """Something that runs SQL and returns all rows."""

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one statement."""


class _QuietConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A pooled connection that nobody leaves dirty: giving it back costs no statement."""

    def get_reset_query(self) -> str:
        return ""


def plain_dsn(url: str) -> str:
    """Return a URL as asyncpg takes it (SQLAlchemy's driver suffix removed)."""
    scheme, sep, rest = url.partition("://")
    if not sep or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ValueError(
            f"a Flow needs a URL like 'postgresql://user:password@host/database', not {scheme!r}…"
        )
    return f"postgresql://{rest}"


def address(dsn: str) -> str:
    """Return host, port and database of a DSN, without its password."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2] or "local socket"
    return f"{host}{parts.path}"


def is_refusal(error: BaseException) -> bool:
    """Say whether Postgres, the driver or the codec refused the *data*: trying again can't help."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _REFUSED
    return isinstance(error, ValueError | PayloadError)


def is_outage(error: BaseException) -> bool:
    """Say whether Postgres can't work now, by an error of the driver or of SQLAlchemy: trying again
    later helps.
    """
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    return state == _READ_ONLY or (state[:2] in _OUTAGE and state != _CANCELLED)


async def connect(dsn: str, application: str, *, session: bool = True, **settings: str) -> Any:
    """Open one connection; raise DatabaseUnavailableError when there is none to be had.

    Without ``session`` it leads to a transaction pooler: no prepared statements, no settings.
    """
    if session:
        settings = {"application_name": application, **_KEEPALIVE, **settings}
    try:
        return await asyncpg.connect(
            dsn,
            timeout=10,
            statement_cache_size=100 if session else 0,
            server_settings=settings if session else {},
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise DatabaseUnavailableError(address(dsn), error) from error


class Pool:
    """Short statements of many callers."""

    def __init__(self, dsn: str, size: int, application: str, *, prepared: bool) -> None:
        self._dsn, self._size, self._application, self._prepared = dsn, size, application, prepared
        self._pool: Any = None

    async def open(self) -> None:
        """Connect once, so that a database that isn't there is found out now."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,  # else the driver tries to keep one, and logs each failure
                max_size=self._size,
                timeout=10,
                connection_class=_QuietConnection,
                statement_cache_size=100 if self._prepared else 0,
                server_settings={"application_name": self._application} if self._prepared else {},
            )
            async with self._pool.acquire():
                pass
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise DatabaseUnavailableError(address(self._dsn), error) from error

    async def close(self) -> None:
        """Close all connections; safe to repeat."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one statement on any connection."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *args)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Borrow a connection within a transaction, which is committed at the end."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Borrow a connection; when it turns out to be dead, or the server to be unable to work,
        that is a DatabaseUnavailableError.
        """
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if isinstance(error, ValueError):
                raise
            if isinstance(error, asyncpg.PostgresError) and not is_outage(error):
                raise
            raise DatabaseUnavailableError(address(self._dsn), error) from error


class Link:
    """One connection that is opened again whenever it is lost. Not for concurrent use."""

    def __init__(self, dsn: str, application: str, *, prepared: bool = True) -> None:
        self._dsn, self._application, self._prepared = dsn, application, prepared
        self._statements: dict[str, Any] = {}
        self.raw: Any = None
        self.on_connect: Callable[[Any], Any] | None = None

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Run one prepared statement; the connection is dropped when anything but the data was
        wrong.
        """
        try:
            if self.raw is None or self.raw.is_closed():
                await self._open()
            if not self._prepared:
                return await self.raw.fetch(sql, *args)  # type: ignore[no-any-return]
            statement = self._statements.get(sql)
            if statement is None:
                statement = self._statements[sql] = await self.raw.prepare(sql)
            return await statement.fetch(*args)  # type: ignore[no-any-return]
        except BaseException as error:
            if not is_refusal(error):
                self.drop()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Begin a transaction, which is committed at the end; the connection is dropped as by
        fetch().
        """
        try:
            if self.raw is None or self.raw.is_closed():
                await self._open()
            async with self.raw.transaction():
                yield self.raw
        except BaseException as error:
            if not is_refusal(error):
                self.drop()
            raise

    async def _open(self) -> None:
        self._statements.clear()
        self.raw = await connect(self._dsn, self._application, session=self._prepared)
        if self.on_connect is not None:
            await self.on_connect(self.raw)

    def drop(self) -> None:
        """Let the connection go at once; safe to repeat."""
        raw, self.raw = self.raw, None
        self._statements.clear()
        if raw is not None and not raw.is_closed():
            raw.terminate()

    async def close(self) -> None:
        """Close the connection in good order; safe to repeat."""
        raw, self.raw = self.raw, None
        self._statements.clear()
        if raw is not None and not raw.is_closed():
            try:
                await raw.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                raw.terminate()


class Backoff:
    """Growing pauses with jitter between tries: 50 ms at first, 5 s at most."""

    def __init__(self) -> None:
        self._next = 0.05

    async def pause(self) -> None:
        """Wait, and wait longer the next time."""
        await asyncio.sleep(self._next * (0.5 + random.random()))  # noqa: S311 - jitter
        self._next = min(self._next * 2, 5.0)

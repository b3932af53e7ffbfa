# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The engines of this process, by name."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from forktex_core.db.database import Database, EngineOptions, Health, IsolationLevel
from forktex_core.db.errors import AlreadyInitializedError, NotInitializedError
from forktex_core.db.url import parse_url

_databases: dict[str, Database] = {}


def init_engine(
    url: str | URL,
    *,
    name: str = "default",
    pool_size: int = 5,
    max_overflow: int = 10,
    pool_timeout: float = 30.0,
    pool_recycle: float = 1800.0,
    statement_timeout: float | None = 60.0,
    connect_timeout: float = 10.0,
    application_name: str = "forktex",
    read_replica_url: str | URL | None = None,
    pooled: bool = False,
    row_security: bool = False,
    echo: bool = False,
    connect_args: Mapping[str, Any] | None = None,
) -> Database:
    """Name a database that this process uses. Opens no connection yet.

    Arguments (times in seconds):
        url: `postgresql+asyncpg://user:password@host:5432/name` (`postgresql://` is the same).
        name: which engine this is, for a service with several databases.
        pool_size, max_overflow: connections kept open, and those opened beyond them under load.
        pool_timeout: how long a session waits for a free connection.
        pool_recycle: the age at which an idle connection is replaced.
        statement_timeout: after it the server ends a query, also one whose task was cancelled;
            None leaves the server's own setting.
        connect_timeout: how long opening a connection may take.
        application_name: what `pg_stat_activity` shows.
        read_replica_url: where `get_session(read_only=True)` reads from.
        pooled: True behind a transaction pooler (PgBouncer): no prepared statement outlives its
            use, and settings are made per transaction, at one round trip each.
        row_security: tell each transaction its `org_scope`, for the policies of
            `row_security_ddl`; costs a round trip per scoped transaction.
        echo: log every statement.
        connect_args: further arguments of `asyncpg.connect`, such as `{"ssl": context}`.

    Calling it again with the same settings returns the same `Database`. Raises
    `AlreadyInitializedError` when they differ and `ConfigurationError` for a URL or a setting that
    cannot work.
    """
    options = EngineOptions(
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=pool_timeout,
        pool_recycle=pool_recycle,
        statement_timeout=statement_timeout,
        connect_timeout=connect_timeout,
        application_name=application_name,
        pooled=pooled,
        row_security=row_security,
        echo=echo,
        connect_args=dict(connect_args or {}),
    )
    known = _databases.get(name)
    if known is not None:
        _refuse_other(known, url, read_replica_url, options)
        return known
    _databases[name] = Database(url, options, read_replica_url=read_replica_url, name=name)
    return _databases[name]


def _refuse_other(
    known: Database, url: str | URL, replica_url: str | URL | None, options: EngineOptions
) -> None:
    differing = known.options.differing(options)
    if parse_url(url) != known.given_url:
        differing.insert(0, "url")
    if (parse_url(replica_url) if replica_url else None) != known.given_replica_url:
        differing.append("read_replica_url")
    if differing:
        raise AlreadyInitializedError(known.name, differing)


def get_database(name: str = "default") -> Database:
    """The `Database` of that name; raises `NotInitializedError` before `init_engine`."""
    try:
        return _databases[name]
    except KeyError:
        raise NotInitializedError(name, _databases) from None


def get_engine(name: str = "default", *, read_only: bool = False) -> AsyncEngine:
    """The SQLAlchemy engine of that name; with `read_only` the read replica's, if there is one."""
    database = get_database(name)
    return database.replica if read_only else database.engine


@asynccontextmanager
async def get_session(
    name: str = "default",
    *,
    read_only: bool = False,
    isolation_level: IsolationLevel | None = None,
) -> AsyncIterator[AsyncSession]:
    """A session that commits when its block ends well and rolls back when it does not.

    A cancellation rolls back too, and the connection always goes back to the pool. `read_only`
    reads from the replica, if there is one, in a transaction that the server lets write nothing.
    Raises `NotInitializedError` before `init_engine`.
    """
    async with get_database(name).session(
        read_only=read_only, isolation_level=isolation_level
    ) as session:
        yield session


async def healthcheck(name: str = "default", *, timeout: float = 5.0) -> Health:
    """Whether the server (and its replica) answers within `timeout` seconds; see `Health`.

    Raises nothing but `NotInitializedError`: what went wrong is in the result's `error`.
    """
    return await get_database(name).healthcheck(timeout)


async def close_engine(name: str | None = None) -> None:
    """Close the engine of that name, or all of them. Idempotent; unknown names are fine."""
    for each in [name] if name is not None else list(_databases):
        database = _databases.pop(each, None)
        if database is not None:
            await database.close()

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`Database`: the engine, its read replica, and the sessions on them.

What a session promises: it commits when its block ends, rolls back when the block raises or is
cancelled, and gives its connection back in every case. The clean-up is shielded (`settling`): under
a storm of cancellations connections come back a moment later, never not at all.

A query whose task was cancelled is cancelled on the server too, when asyncpg gets to send the
request; a second cancellation (anyio repeats them) can stop that request. Hence the default
`statement_timeout`: no query outlives it, whatever happened to its task.
"""

import asyncio
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import QueuePool

from forktex_core.db.errors import ConfigurationError, DBError, UnreachableError
from forktex_core.db.session import OrgSession
from forktex_core.db.settling import Settling
from forktex_core.db.url import address, parse_url

IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The settings of one engine; times are in seconds. `init_engine` explains each.

    Raises `ConfigurationError` for sizes and times that make no sense.
    """

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 30.0
    pool_recycle: float = 1800.0
    statement_timeout: float | None = 60.0
    connect_timeout: float = 10.0
    application_name: str = "forktex"
    pooled: bool = False
    row_security: bool = False
    echo: bool = False
    connect_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("pool_size", 1), ("max_overflow", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigurationError(f"{name} is a number from {least} on, not {value!r}")
        for name in ("pool_timeout", "pool_recycle", "statement_timeout", "connect_timeout"):
            value = getattr(self, name)
            if name == "statement_timeout" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigurationError(f"{name} is a time in seconds above 0, not {value!r}")

    def differing(self, other: "EngineOptions") -> list[str]:
        """The names of the settings in which the two differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]


@dataclass(frozen=True)
class Health:
    """What `healthcheck` found: true when everything answers.

    `latency` is the round trip in seconds, `error` says why the server did not answer, the pool's
    numbers count connections, and `replica` is the same for the read replica, if there is one.
    """

    ok: bool
    latency: float | None
    error: str | None
    in_use: int
    idle: int
    replica: "Health | None" = None

    def __bool__(self) -> bool:
        return self.ok and (self.replica is None or self.replica.ok)


class Database:
    """One database as a service sees it; `init_engine` makes and registers one.

    For code that rather passes its dependencies on than names them:
    `async with Database(url) as database, database.session() as session: …`
    """

    def __init__(
        self,
        url: str | URL,
        options: EngineOptions | None = None,
        *,
        read_replica_url: str | URL | None = None,
        name: str = "default",
    ) -> None:
        self.name = name
        self.options = options or EngineOptions()
        self.given_url = parse_url(url)
        self.given_replica_url = parse_url(read_replica_url) if read_replica_url else None
        self.engine = _create(self.given_url, self.options)
        self.replica = self.engine
        if self.given_replica_url:
            self.replica = _create(self.given_replica_url, self.options)
        self._settling = Settling()
        self._closed = False
        self._warn = weakref.finalize(self, _warn_unclosed, name)

    @asynccontextmanager
    async def session(
        self, *, read_only: bool = False, isolation_level: IsolationLevel | None = None
    ) -> AsyncIterator[AsyncSession]:
        """A session for one block, and one transaction unless the block commits by itself.

        `read_only` uses the read replica, if there is one, and a transaction in which the server
        refuses every write. `isolation_level` is the server's default unless given. Raises
        `ConfigurationError` for a level that no transaction can have, and after `close`.
        """
        session = self._open(read_only, isolation_level)
        try:
            yield session
            await session.commit()
        finally:
            await self._settling.run(session.close())

    def _open(self, read_only: bool, isolation_level: IsolationLevel | None) -> AsyncSession:
        self._refuse_unusable(isolation_level)
        engine = self.replica if read_only else self.engine
        options: dict[str, Any] = {"postgresql_readonly": True} if read_only else {}
        if isolation_level is not None:
            options["isolation_level"] = isolation_level
        return AsyncSession(
            engine.execution_options(**options) if options else engine,
            sync_session_class=OrgSession,
            expire_on_commit=False,
            transaction_settings=self._transaction_settings(),
            row_security=self.options.row_security,
        )

    def _refuse_unusable(self, isolation_level: Any) -> None:
        if self._closed:
            raise ConfigurationError(
                f"the engine {self.name!r} was closed; a session opened now would leave a "
                "connection that nobody closes: open it before close(), or make another Database"
            )
        levels = get_args(IsolationLevel)
        if isolation_level is not None and isolation_level not in levels:  # such as AUTOCOMMIT
            raise ConfigurationError(
                f"isolation_level is one of {', '.join(levels)}, not {isolation_level!r}"
            )

    def _transaction_settings(self) -> dict[str, str]:
        """What a transaction pooler would lose if it were set once for the connection."""
        if not self.options.pooled or self.options.statement_timeout is None:
            return {}
        return {"statement_timeout": _milliseconds(self.options.statement_timeout)}

    async def healthcheck(self, timeout: float = 5.0) -> Health:
        """Ask the server, and the replica, for an answer within `timeout` seconds. Never raises."""
        if self._closed:
            return Health(False, None, f"the engine {self.name!r} was closed", 0, 0)
        health = await _ask(self.engine, timeout)
        if self.replica is self.engine:
            return health
        return replace(health, replica=await _ask(self.replica, timeout))

    async def close(self) -> None:
        """Wait for clean-ups that are under way and close every idle connection. Idempotent.

        A session that is open goes on to its end, and its connection is closed then.
        """
        self._closed = True
        self._warn.detach()
        await self._settling.wait()
        await self.engine.dispose()
        if self.replica is not self.engine:
            await self.replica.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._settling.run(self.close())


def _warn_unclosed(name: str) -> None:
    warnings.warn(
        f"the engine {name!r} was never closed; await close_engine() when the service stops",
        ResourceWarning,
        stacklevel=2,
    )


def _create(given: tuple[URL, dict[str, Any]], options: EngineOptions) -> AsyncEngine:
    parsed, from_url = given
    engine = create_async_engine(
        parsed,
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout=options.pool_timeout,
        pool_recycle=int(options.pool_recycle),
        echo=options.echo,
        connect_args=_connect_args(options, from_url),
    )
    event.listen(engine.sync_engine, "do_connect", _connect_clearly)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _unwrap_own)
    return engine


def _connect_args(options: EngineOptions, from_url: dict[str, Any]) -> dict[str, Any]:
    settings = {"application_name": options.application_name}
    if options.statement_timeout is not None and not options.pooled:
        settings["statement_timeout"] = _milliseconds(options.statement_timeout)
    arguments = {"timeout": options.connect_timeout, **from_url, **options.connect_args}
    for source in (from_url, options.connect_args):
        settings |= source.get("server_settings", {})
    return arguments | {"server_settings": settings} | (_UNNAMED if options.pooled else {})


# Behind a transaction pooler a named prepared statement belongs to whichever server connection
# made it. All caches are off, and statements have no name: each is parsed where it runs.
_UNNAMED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _connect_clearly(dialect: Any, _record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
    try:
        return dialect.connect(*cargs, **cparams)
    except (
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        dialect.loaded_dbapi.Error,
    ) as exc:
        where = URL.create(
            "postgresql",
            cparams.get("user"),
            host=str(cparams.get("host", "localhost")),
            port=cparams.get("port") if isinstance(cparams.get("port"), int) else None,
            database=cparams.get("database"),
        )
        raise UnreachableError(address(where), exc) from exc


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    """A connection that the server has closed is replaced before its use, without a round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed the connection")


def _unwrap_own(context: ExceptionContext) -> None:
    """An error of ours that arose inside SQLAlchemy (a value without a scope) stays itself."""
    if isinstance(context.original_exception, DBError):
        raise context.original_exception


async def _ask(engine: AsyncEngine, timeout: float) -> Health:
    began, error = time.perf_counter(), None
    try:
        async with asyncio.timeout(timeout), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except TimeoutError:
        error = f"no answer from {address(engine.url)} within {timeout} s"
    except (DBError, SQLAlchemyError, OSError) as exc:
        error = str(exc)
    latency = None if error else time.perf_counter() - began
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    return Health(error is None, latency, error, pool.checkedout(), pool.checkedin())

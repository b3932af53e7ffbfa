# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Engines by name and the sessions on them: what commits, what rolls back, what is refused."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from forktex_core.db import (
    AlreadyInitializedError,
    ConfigurationError,
    Database,
    NotInitializedError,
    UnreachableError,
    close_engine,
    get_database,
    get_engine,
    get_session,
    healthcheck,
    init_engine,
)
from forktex_core.embedded import EmbeddedPostgres
from tests.conftest import Database as Server
from tests.conftest import execute
from tests.waiting import eventually


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """No engine outlives its test."""
    yield
    await close_engine()


@pytest.fixture
async def notes(database: Server) -> Server:
    """A database with one table."""
    await execute(database, "CREATE TABLE note (body text)")
    return database


async def bodies(name: str = "default") -> list[str]:
    async with get_session(name) as session:
        return list((await session.execute(text("SELECT body FROM note ORDER BY 1"))).scalars())


async def write(body: str) -> None:
    async with get_session() as session:
        await session.execute(text("INSERT INTO note VALUES (:body)"), {"body": body})


async def setting(name: str) -> str:
    async with get_session() as session:
        return str(await session.scalar(text("SELECT current_setting(:name)"), {"name": name}))


# The transaction of a session


async def test_a_block_that_ends_well_commits(notes: Server) -> None:
    """What a block wrote is there for the next session."""
    init_engine(notes.url)
    await write("kept")
    assert await bodies() == ["kept"]


async def test_an_exception_rolls_back_and_is_raised_unchanged(notes: Server) -> None:
    """The caller's own exception arrives as it was, and nothing of its block is left."""
    init_engine(notes.url, pool_size=1, max_overflow=0)
    with pytest.raises(KeyError, match="mine"):
        async with get_session() as session:
            await session.execute(text("INSERT INTO note VALUES ('lost')"))
            raise KeyError("mine")
    assert await bodies() == []


async def test_a_cancellation_rolls_back_and_frees_the_connection(notes: Server) -> None:
    """A task cancelled between two statements leaves neither a row nor a held connection."""
    init_engine(notes.url, pool_size=1, max_overflow=0, pool_timeout=5)
    wrote = asyncio.Event()

    async def interrupted() -> None:
        async with get_session() as session:
            await session.execute(text("INSERT INTO note VALUES ('lost')"))
            wrote.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(interrupted())
    await wrote.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bodies() == []


async def test_a_failing_commit_raises_and_leaves_nothing(notes: Server) -> None:
    """A constraint that is only checked at the commit fails the block."""
    await execute(notes, "ALTER TABLE note ADD UNIQUE (body) DEFERRABLE INITIALLY DEFERRED")
    init_engine(notes.url)
    with pytest.raises(DBAPIError, match="duplicate key"):
        async with get_session() as session:
            await session.execute(text("INSERT INTO note VALUES ('twin'), ('twin')"))
    assert await bodies() == []


async def test_a_block_may_commit_by_itself(notes: Server) -> None:
    """An explicit commit stands, whatever happens to the rest of the block."""
    init_engine(notes.url)
    with pytest.raises(RuntimeError, match="later"):
        async with get_session() as session:
            await session.execute(text("INSERT INTO note VALUES ('first')"))
            await session.commit()
            await session.execute(text("INSERT INTO note VALUES ('second')"))
            raise RuntimeError("later")
    assert await bodies() == ["first"]


async def test_read_only_sessions_write_nothing(notes: Server) -> None:
    """The server itself refuses a write, and the next session on that connection may write."""
    init_engine(notes.url, pool_size=1, max_overflow=0)
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with get_session(read_only=True) as session:
            await session.execute(text("INSERT INTO note VALUES ('no')"))
    await write("yes")
    assert await bodies() == ["yes"]


async def test_the_isolation_level_is_that_of_one_session(postgres: Server) -> None:
    """The level asked for holds in that session; the connection goes back with the default."""
    init_engine(postgres.url, pool_size=1, max_overflow=0)
    shown = text("SHOW transaction_isolation")
    async with get_session(isolation_level="SERIALIZABLE") as session:
        assert await session.scalar(shown) == "serializable"
    async with get_session() as session:
        assert await session.scalar(shown) == "read committed"


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "serializable", "SNAPSHOT"])
async def test_an_isolation_level_that_is_none_is_refused(postgres: Server, level: Any) -> None:
    """AUTOCOMMIT above all: the block could not be rolled back."""
    init_engine(postgres.url)
    with pytest.raises(ConfigurationError, match=f"REPEATABLE READ, SERIALIZABLE, not '{level}'"):
        async with get_session(isolation_level=level):
            pytest.fail("the block ran")


# init_engine


async def test_use_before_init_says_what_to_do() -> None:
    """Every way to an engine that isn't there names it, what is there, and the call to make."""
    init_engine("postgresql://localhost/x", name="reports")
    for use in (get_engine, get_database):
        with pytest.raises(NotInitializedError, match=r"'default' .*'reports'.*init_engine\(url\)"):
            use()
    with pytest.raises(NotInitializedError, match=r"init_engine\(url, name='b'\)"):
        async with get_session("b"):
            pass
    with pytest.raises(NotInitializedError) as caught:
        await healthcheck("c")
    assert caught.value.name == "c"


async def test_a_second_init_with_another_url_is_refused(postgres: Server) -> None:
    """The error names what differs and both ways out, and the first engine goes on."""
    first = init_engine(postgres.url)
    with pytest.raises(AlreadyInitializedError, match="another url") as caught:
        init_engine("postgresql://localhost/other")
    assert "close_engine('default')" in str(caught.value)
    assert "name=" in str(caught.value)
    assert caught.value.differing == ("url",)
    assert get_database() is first
    assert await healthcheck()


async def test_a_second_init_with_other_settings_names_them(postgres: Server) -> None:
    """Settings that would be ignored are refused: each is named."""
    init_engine(postgres.url, pool_size=2)
    with pytest.raises(AlreadyInitializedError) as caught:
        init_engine(postgres.url, pool_size=3, pooled=True, read_replica_url=postgres.url)
    assert caught.value.differing == ("pool_size", "pooled", "read_replica_url")


async def test_the_same_init_again_is_the_same_engine(postgres: Server) -> None:
    """Two parts of a service may both make sure: same settings, same engine, any spelling."""
    first = init_engine(postgres.url)
    assert init_engine(postgres.dsn) is first
    assert init_engine(make_url(postgres.url)) is first


async def test_close_is_idempotent_and_allows_another_init(notes: Server, postgres: Server) -> None:
    """After closing, the name is free for another database; closing again does nothing."""
    init_engine(notes.url)
    await bodies()
    await close_engine()
    await close_engine()
    await close_engine("never made")
    with pytest.raises(NotInitializedError):
        get_engine()
    init_engine(postgres.url)
    assert get_engine().url.database == make_url(postgres.url).database


async def test_named_engines_are_apart(notes: Server, postgres: Server) -> None:
    """Each name is a database of its own; closing one leaves the others."""
    init_engine(notes.url)
    init_engine(postgres.url, name="other")
    await write("here")
    with pytest.raises(DBAPIError, match='"note" does not exist'):
        await bodies("other")
    await close_engine("other")
    assert await bodies() == ["here"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", r"cannot be read.*postgresql\+asyncpg://"),
        ("sqlite:///x.db", r"sqlite:// is not supported; use postgresql\+asyncpg://"),
        ("postgresql+psycopg://localhost/x", "only driver"),
        ("postgresql://u:hidden@localhost/x?sslcert=a.pem", "'sslcert'.*connect_args"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str, says: str) -> None:
    """Before any connection, with the mend and without the password."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        init_engine(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pool_size": 0}, "pool_size is a number from 1 on, not 0"),
        ({"pool_size": "5"}, "pool_size is a number from 1 on, not '5'"),
        ({"max_overflow": -1}, "max_overflow is a number from 0 on"),
        ({"pool_timeout": 0}, "pool_timeout is a time in seconds above 0"),
        ({"pool_timeout": True}, "pool_timeout is a time in seconds above 0, not True"),
        ({"pool_recycle": -1}, "pool_recycle is a time in seconds above 0"),
        ({"statement_timeout": 0}, "statement_timeout is a time in seconds above 0"),
        ({"statement_timeout": "60s"}, "statement_timeout is a time in seconds above 0"),
        ({"connect_timeout": None}, "connect_timeout is a time in seconds above 0"),
        ({"connect_timeout": float("nan")}, "connect_timeout is a time in seconds above 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    """SQLAlchemy takes a pool of size 0 for one without limits: here it is an error."""
    with pytest.raises(ConfigurationError, match=says):
        init_engine("postgresql://localhost/x", **settings)
    with pytest.raises(NotInitializedError):
        get_database()


async def test_parameters_of_the_url_reach_the_server(database: Server) -> None:
    """Names of libpq in the URL's query are understood, and win over the defaults."""
    mark = "&" if "?" in database.url else "?"
    init_engine(f"{database.url}{mark}application_name=from_url&connect_timeout=3")
    assert await setting("application_name") == "from_url"


async def test_connect_args_reach_the_driver(postgres: Server) -> None:
    """A further argument of asyncpg is used: a setting of the server's session."""
    init_engine(postgres.url, connect_args={"server_settings": {"work_mem": "5MB"}})
    assert await setting("work_mem") == "5MB"
    assert await setting("application_name") == "forktex"


async def test_application_name_shows_on_the_server(postgres: Server) -> None:
    """What `pg_stat_activity` shows is the given name, and "forktex" without one."""
    init_engine(postgres.url)
    init_engine(postgres.url, name="named", application_name="billing")
    shown = text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    for name, expected in {"default": "forktex", "named": "billing"}.items():
        async with get_session(name) as session:
            assert await session.scalar(shown) == expected


async def test_the_pool_is_bounded(postgres: Server) -> None:
    """Beyond pool_size + max_overflow a session waits, for at most pool_timeout seconds."""
    init_engine(postgres.url, pool_size=1, max_overflow=1, pool_timeout=0.2)
    async with get_session() as one, get_session() as two:
        await one.execute(text("SELECT 1"))
        await two.execute(text("SELECT 1"))
        with pytest.raises(PoolTimeoutError, match=r"timeout 0\.20"):
            async with get_session() as third:
                await third.execute(text("SELECT 1"))
    assert await setting("application_name") == "forktex"


async def test_an_old_connection_is_replaced(postgres: Server) -> None:
    """Past `pool_recycle` an idle connection is opened anew; before, it is used again."""
    backend = text("SELECT pg_backend_pid()")
    init_engine(postgres.url, pool_size=1, max_overflow=0)
    init_engine(postgres.url, name="impatient", pool_size=1, max_overflow=0, pool_recycle=0.01)
    for name, different in {"default": 1, "impatient": 2}.items():
        seen = set()
        for _ in range(2):
            async with get_session(name) as session:
                seen.add(await session.scalar(backend))
        assert len(seen) == different


async def test_echo_logs_every_statement(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """With `echo` statements are in the log of SQLAlchemy's engine, without it they are not."""
    init_engine(postgres.url)
    init_engine(postgres.url, name="loud", echo=True)
    for name, number in {"default": 71, "loud": 72}.items():
        async with get_session(name) as session:
            await session.execute(text(f"SELECT {number}"))
    assert "SELECT 72" in caplog.text
    assert "SELECT 71" not in caplog.text


async def test_an_engine_without_a_registry(notes: Server) -> None:
    """`Database` is the same thing for code that passes its dependencies on."""
    async with Database(notes.url) as database:
        async with database.session() as session:
            await session.execute(text("INSERT INTO note VALUES ('direct')"))
        async with database.session(read_only=True) as session:
            assert await session.scalar(text("SELECT body FROM note")) == "direct"
    await database.close()


async def test_a_closed_database_opens_no_session(notes: Server) -> None:
    """It would open a connection that nobody closes; an open one goes on to its end."""
    database = Database(notes.url, name="mine")
    async with database.session() as session:
        await session.execute(text("INSERT INTO note VALUES ('to the end')"))
        await database.close()
    with pytest.raises(ConfigurationError, match="'mine' was closed"):
        async with database.session():
            pytest.fail("the block ran")
    health = await database.healthcheck()
    assert (health.ok, health.error) == (False, "the engine 'mine' was closed")
    async with Database(notes.url) as again, again.session() as session:
        assert await session.scalar(text("SELECT body FROM note")) == "to the end"


def test_a_database_that_cannot_work_is_refused_at_once() -> None:
    """The constructor refuses what `init_engine` does."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Database("nonsense")
    with pytest.raises(ConfigurationError, match="is not supported"):
        Database("postgresql://localhost/x", read_replica_url="mysql://localhost/x")


def _lose() -> None:
    Database("postgresql://localhost/x", name="lost")
    gc.collect()


def test_an_engine_that_nobody_closed_warns() -> None:
    """Losing the last reference to an open `Database` is a ResourceWarning with the mend."""
    with pytest.warns(ResourceWarning, match="'lost' was never closed; await close_engine"):
        _lose()


# The read replica


async def test_read_only_sessions_go_to_the_replica(notes: Server, postgres: Server) -> None:
    """Reads marked so use the replica's address, everything else the primary's."""
    init_engine(notes.url, read_replica_url=postgres.url)
    where = text("SELECT current_database()")
    async with get_session() as primary, get_session(read_only=True) as replica:
        assert await primary.scalar(where) == make_url(notes.url).database
        assert await replica.scalar(where) == make_url(postgres.url).database
    assert get_engine(read_only=True) is not get_engine()


async def test_without_a_replica_reads_use_the_primary(notes: Server) -> None:
    """`read_only=True` is safe to write before there is a replica."""
    init_engine(notes.url)
    await write("here")
    async with get_session(read_only=True) as session:
        assert await session.scalar(text("SELECT body FROM note")) == "here"
    assert get_engine(read_only=True) is get_engine()


# Timeouts


async def test_statement_timeout_ends_the_query_on_the_server(postgres: Server) -> None:
    """The server itself cancels a query that runs too long, and the connection stays usable."""
    init_engine(postgres.url, pool_size=1, max_overflow=0, statement_timeout=0.1)
    with pytest.raises(DBAPIError, match="statement timeout"):
        async with get_session() as session:
            await session.execute(text("SELECT pg_sleep(30)"))
    assert await setting("statement_timeout") == "100ms"


async def test_statement_timeout_has_a_default_or_is_the_servers(postgres: Server) -> None:
    """One minute unless given; None leaves what the server is set to."""
    init_engine(postgres.url)
    assert await setting("statement_timeout") == "1min"
    await close_engine()
    init_engine(postgres.url, statement_timeout=None)
    assert await setting("statement_timeout") == "0"


async def test_a_cancelled_query_ends_on_the_server(postgres: Server) -> None:
    """A query whose task was cancelled does not go on working on the server."""
    init_engine(postgres.url, application_name="cancelled query")
    running = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cancelled query' "
        "AND state = 'active' AND query LIKE '%pg_sleep(31)' AND pid <> pg_backend_pid()"
    )

    async def running_now() -> int:
        async with get_session() as session:
            return int(await session.scalar(running) or 0)

    async def stays_at_it() -> None:
        async with get_session() as session:
            await session.execute(text("SELECT pg_sleep(31)"))

    async def nothing_runs() -> bool:
        return await running_now() == 0

    task = asyncio.create_task(stays_at_it())
    assert await eventually(running_now) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await eventually(nothing_runs, timeout=5)


# Health, and servers that are gone


async def test_health_of_a_living_server(postgres: Server) -> None:
    """True, with the round trip in seconds and the pool's numbers."""
    init_engine(postgres.url)
    async with get_session() as session:
        await session.execute(text("SELECT 1"))
        health = await healthcheck()
    assert health
    assert health.latency is not None
    assert 0 < health.latency < 5
    assert (health.error, health.replica, health.in_use, health.idle) == (None, None, 1, 1)


async def test_health_of_a_server_that_died() -> None:
    """The check turns false with the reason, and a session says which server and what to check."""
    async with EmbeddedPostgres(durable=False) as server:
        init_engine(server.url)
        assert await healthcheck()
    dead = await healthcheck()
    assert not dead
    assert dead.error
    assert dead.latency is None
    with pytest.raises(UnreachableError, match="check that the server runs"):
        async with get_session() as session:
            await session.execute(text("SELECT 1"))


async def test_health_of_a_server_that_refuses() -> None:
    """`init_engine` needs no server; a refused connection is a false result naming the address."""
    init_engine("postgresql://someone:hidden@127.0.0.1:1/x")
    health = await healthcheck()
    assert not health
    assert "127.0.0.1:1" in (health.error or "")
    assert "hidden" not in (health.error or "")


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that accepts and never answers."""
    done = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        yield f"someone@127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        done.set()


async def test_health_of_a_server_that_is_silent() -> None:
    """A server that accepts and never answers is unhealthy after the timeout."""
    async with silent_server() as address:
        init_engine(f"postgresql://{address}", connect_args={"ssl": False, "timeout": 20})
        health = await healthcheck(timeout=0.2)
    assert not health
    assert f"no answer from postgresql+asyncpg://{address}" in (health.error or "")


async def test_connecting_ends_after_its_timeout() -> None:
    """`connect_timeout` ends the wait for a server that never answers."""
    async with silent_server() as address:
        init_engine(f"postgresql://{address}", connect_timeout=0.2, connect_args={"ssl": False})
        with pytest.raises(UnreachableError, match="TimeoutError"):
            async with asyncio.timeout(15), get_session() as session:
                await session.execute(text("SELECT 1"))
        await close_engine()
        arguments = {"ssl": False, "timeout": 0.2}  # what is passed wins over the URL
        init_engine(f"postgresql://{address}?connect_timeout=30", connect_args=arguments)
        with pytest.raises(UnreachableError, match="TimeoutError"):
            async with asyncio.timeout(15), get_session() as session:
                await session.execute(text("SELECT 1"))


async def test_health_looks_at_the_replica_too(postgres: Server) -> None:
    """A dead replica makes the whole unhealthy, and the result says which one it is."""
    init_engine(postgres.url, read_replica_url="postgresql://someone@127.0.0.1:1/x")
    health = await healthcheck()
    assert not health
    assert health.ok
    assert health.replica is not None
    assert not health.replica.ok


async def test_a_wrong_database_is_named(postgres: Server) -> None:
    """What the server answered, the address without the password, and the driver's error."""
    init_engine(postgres.named("not_there").url)
    with pytest.raises(UnreachableError, match='"not_there" does not exist') as caught:
        await setting("application_name")
    assert "/not_there" in caught.value.address
    assert caught.value.__cause__ is not None


async def test_a_connection_that_the_server_closed_is_replaced(notes: Server) -> None:
    """After a restart of the server or of a proxy the next session just works."""
    init_engine(notes.url, pool_size=1, max_overflow=0)
    async with get_engine().connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    await execute(notes, f"SELECT pg_terminate_backend({driver.get_server_pid()})")
    await eventually(driver.is_closed)
    await write("again")
    assert await bodies() == ["again"]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Real servers for every test: embedded ones, started when first asked for, or others by URL."""

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis
from hypothesis import settings

from forktex_core.embedded import EmbeddedPostgres, EmbeddedRedis

# How long an example takes is nobody's assertion: the first one of a test is slow.
settings.register_profile("forktex", deadline=None, print_blob=True)
settings.load_profile("forktex")


@dataclass(frozen=True)
class Database:
    """A database: ``dsn`` for asyncpg and psql, ``url`` for SQLAlchemy."""

    dsn: str

    @property
    def url(self) -> str:
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)

    def named(self, name: str) -> "Database":
        """Another database of the same server."""
        return Database(urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}")))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the same tests run on other servers."""
    group = parser.getgroup("servers")
    group.addoption("--postgres-url", help="run on this PostgreSQL instead of an embedded one")
    group.addoption(
        "--postgres-version",
        default="18",
        help="the embedded PostgreSQL: 18, 16, or a folder of programs (pg_config --bindir)",
    )
    group.addoption(
        "--redis-url", help="run on this Redis instead of an embedded one: IT IS FLUSHED"
    )
    group.addoption("--redis-program", help="run on this redis-server instead of Valkey's wheel")
    group.addoption("--s3-endpoint", help="run the storage tests on this S3 service, too")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Database]:
    """The PostgreSQL server of this session: its maintenance database."""
    given = request.config.getoption("--postgres-url")
    version = request.config.getoption("--postgres-version")
    if given:
        yield Database(given.replace("postgresql+asyncpg://", "postgresql://", 1))
        return
    choice = {"version": int(version)} if version.isdigit() else {"bindir": version}
    with EmbeddedPostgres(durable=False, **choice) as server:
        yield Database(server.dsn)


@pytest.fixture
async def schema(postgres: Database) -> AsyncIterator[str]:
    """The name of a schema that doesn't exist yet; what was made under it is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    await execute(postgres, f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@pytest.fixture
async def sql(postgres: Database, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose search path is the schema of the test."""
    connection = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
    yield connection
    await connection.close()


@pytest.fixture
async def database(postgres: Database) -> AsyncIterator[Database]:
    """A fresh and empty database, dropped afterwards with whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(postgres, f'CREATE DATABASE "{name}"')
    yield postgres.named(name)
    await execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


async def execute(database: Database, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of this session's Redis."""
    given = request.config.getoption("--redis-url")
    if given:
        yield given
        return
    with EmbeddedRedis(program=request.config.getoption("--redis-program")) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def s3_endpoint(request: pytest.FixtureRequest) -> str | None:
    """The S3 service given on the command line, if any."""
    endpoint: str | None = request.config.getoption("--s3-endpoint")
    return endpoint

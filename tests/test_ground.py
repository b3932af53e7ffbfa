# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The fixtures themselves."""

import asyncpg
import pytest
import redis.asyncio

from tests.conftest import Database
from tests.waiting import eventually


async def test_databases_are_fresh(database: Database, postgres: Database) -> None:
    """A test's database is empty and another than the server's own."""
    connection = await asyncpg.connect(database.dsn)
    try:
        name = await connection.fetchval("SELECT current_database()")
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        )
    finally:
        await connection.close()
    assert postgres.dsn != database.dsn
    assert database.url == f"postgresql+asyncpg://{database.dsn.removeprefix('postgresql://')}"
    assert database.dsn.endswith(f"/{name}")
    assert tables == 0


@pytest.mark.parametrize("attempt", [1, 2])
async def test_redis_is_empty(redis_url: str, attempt: int) -> None:
    """What one test leaves in Redis the next doesn't see."""
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        assert await client.dbsize() == 0
        await client.set("left", attempt)
    finally:
        await client.aclose()


made: list[str] = []


@pytest.mark.parametrize("attempt", [1, 2])
async def test_schemas_are_fresh(postgres: Database, schema: str, attempt: int) -> None:
    """A schema's name is free, and what a test made under it goes away."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        left = await connection.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname = ANY($1)", [schema, *made]
        )
        await connection.execute(f'CREATE SCHEMA "{schema}"')
        await connection.execute(f'CREATE TABLE "{schema}".t ()')
    finally:
        await connection.close()
    made.append(schema)
    assert left == 0


async def test_eventually_gives_the_value_or_fails() -> None:
    """It returns the first truthy value, and names the condition that never came true."""
    values = iter([0, None, 3])

    async def later() -> int | None:
        return next(values)

    def never() -> bool:
        return False

    assert await eventually(later) == 3
    with pytest.raises(AssertionError, match=r"never still gave False after 0\.03 s"):
        await eventually(never, timeout=0.03)

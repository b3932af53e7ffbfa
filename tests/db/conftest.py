# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The database of the tests of the organisation scope."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from forktex_core.db import Database, close_engine, get_session, init_engine, unscoped
from tests.conftest import Database as Server
from tests.conftest import execute
from tests.db.books import A, B, Bill, Books, Client, Country


@pytest.fixture(scope="module")
def books_tables(postgres: Server) -> Iterator[Server]:
    """One database for the file: making one for each test would take longer than the tests."""
    name = f"test_{secrets.token_hex(6)}"
    there = postgres.named(name)

    async def make() -> None:
        await execute(postgres, f'CREATE DATABASE "{name}"')
        async with Database(there.url) as made, made.engine.begin() as connection:
            await connection.run_sync(Books.metadata.create_all)

    asyncio.run(make())
    yield there
    asyncio.run(execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
async def books(books_tables: Server) -> AsyncIterator[None]:
    """Both organisations' rows, one country each."""
    await execute(books_tables, "TRUNCATE books_country CASCADE")
    init_engine(books_tables.url, pool_size=2, max_overflow=2)
    with unscoped():
        async with get_session() as session:
            for org, letter in ((A, "a"), (B, "b")):
                client = Client(org_id=org, name=f"{letter}0", country=Country(name=letter))
                session.add(client)
                bills = [Bill(org_id=org, number=f"{letter}{n}", client=client) for n in (1, 2)]
                session.add_all(bills)
    yield
    await close_engine()

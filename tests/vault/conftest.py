# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An engine on a fresh database with the tables of these tests."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from tests.vault.models import Base

type Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def engine(database) -> AsyncIterator[AsyncEngine]:
    """An engine whose tables exist and are empty."""
    engine = create_async_engine(database.url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    """A session factory on that engine."""
    return async_sessionmaker(engine, expire_on_commit=False)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A store on a schema of its own, and a register with a field of each sort."""

from collections.abc import AsyncIterator

import pytest

from forktex_core.data import DataStore
from forktex_core.db import Database as Engine
from forktex_core.db import EngineOptions
from tests.conftest import Database


@pytest.fixture
async def store(postgres: Database, schema: str) -> AsyncIterator[DataStore]:
    """An empty store."""
    async with Engine(postgres.url, EngineOptions(pool_size=2, max_overflow=4)) as engine:
        made = DataStore(engine, schema=schema, cursor_key=b"a key of the tests")
        await made.migrate()
        yield made

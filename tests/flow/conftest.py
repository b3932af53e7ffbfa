# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An open Flow on a schema of its own, and a worker beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from forktex_core.flow import Flow
from tests.conftest import Database

type Served = Callable[..., object]


@pytest.fixture
async def flow(postgres: Database, schema: str) -> AsyncIterator[Flow]:
    """A Flow that is not open yet; closed afterwards."""
    flow = Flow(postgres.url, schema=schema)
    yield flow
    await flow.close()


@pytest.fixture
def serving() -> Served:
    """Open a Flow and serve it: ``async with serving(flow, concurrency=5):``."""

    @asynccontextmanager
    async def serve(flow: Flow, **settings: object) -> AsyncIterator[asyncio.Task[None]]:
        async with flow:
            task = asyncio.create_task(flow.run_worker(**settings))
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    return serve

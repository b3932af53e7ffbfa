# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A client on the session's server for every test that asks for `cache`."""

from collections.abc import AsyncIterator

import pytest

from forktex_core.cache import CacheClient, Tallies, close, init
from tests.cache.servers import Server


@pytest.fixture(scope="session", autouse=True)
def standard_program(request: pytest.FixtureRequest) -> None:
    """The tests' own servers run the program of ``--redis-program``."""
    Server.standard = request.config.getoption("--redis-program") or Server.standard


@pytest.fixture
def tallies() -> Tallies:
    """What the default client reported."""
    return Tallies()


@pytest.fixture
async def cache(redis_url: str, tallies: Tallies) -> AsyncIterator[CacheClient]:
    """The default client, with a prefix and a counting hook."""
    yield await init(redis_url, prefix="svc", hook=tallies, timeouts=2)
    await close()


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """No client outlives a test."""
    yield
    await close()

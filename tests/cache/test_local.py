# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The second level: values kept in the process, and client tracking, on a real server."""

import logging

import pytest

from forktex_core.cache import (
    CacheClient,
    Settings,
    Tallies,
    Timeouts,
    cached,
    get_client,
    init,
    invalidate_tags,
)
from tests.cache.counted import Counted
from tests.cache.servers import Proxy, Server
from tests.waiting import eventually


async def test_it_is_off_unless_asked_for(cache: CacheClient) -> None:
    """Without `local=True` nothing is kept in the process and no connection tracks."""

    @cached(namespace="off")
    async def get() -> int:
        return 1

    assert [await get() for _ in range(3)] == [1, 1, 1]
    assert len(cache.local) == 0
    assert not any("t" in each["flags"] for each in await get_client().client_list())


async def test_it_is_bounded(redis_url: str) -> None:
    """No more entries are kept than `local_entries` says, however many are read."""
    client = await init(redis_url, local_entries=5, timeouts=2)

    @cached(namespace="few", local=True)
    async def get(number: int) -> int:
        return number

    async def kept() -> bool:
        assert [await get(number) for number in range(30)] == list(range(30))
        assert len(client.local) <= 5
        return len(client.local) == 5

    await eventually(kept)
    [tracking] = [each for each in await get_client().client_list() if "t" in each["flags"]]
    assert tracking["flags"] == "tB"


async def test_the_local_tier_follows_changes(
    cache: CacheClient, redis_url: str, tallies: Tallies
) -> None:
    """Hits need no server; a change by anybody (or a flush) is seen; callers can't spoil the
    value.
    """
    body = Counted(["old"])

    @cached(namespace="loc", local=True, tags=("t",))
    async def get() -> list[str]:
        return list(await body())

    async def served_locally() -> bool:
        await get()
        return tallies["loc:get", "local_hit"].count > before

    async with CacheClient(Settings(redis_url, "svc", timeouts=Timeouts(2, 2))) as other:

        async def change_entry() -> None:
            await other.execute(f"svc:{get.key()}", "UNLINK", f"svc:{get.key()}")

        changes = [
            change_entry,
            lambda: invalidate_tags("t", client=other),
            lambda: get_client().flushall(),
            get.invalidate,
        ]
        for number, change in enumerate(changes):
            before = tallies["loc:get", "local_hit"].count
            await eventually(served_locally)
            (await get()).append("spoilt")
            body.value = [f"new{number}"]
            await change()

            async def fresh(expected: str = f"new{number}") -> bool:
                return await get() == [expected]

            await eventually(fresh)


async def test_the_local_tier_forgets_when_the_server_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without announcements nothing is served from memory; after the server's return it is
    again.
    """
    body = Counted("old")

    @cached(namespace="lost", local=True)
    async def get() -> str:
        return str(await body())

    async with Server() as server:
        client = await init(server.url, fail_open=True)

        async def kept() -> bool:
            await get()
            return len(client.local) == 1

        await eventually(kept)
        server.kill()
        await eventually(lambda: len(client.local) == 0)
        assert not client.tracker.ready("lost")  # what is read unwatched would not be kept
        body.value = "new"
        with caplog.at_level(logging.WARNING, "forktex_core.cache"):
            assert [await get() for _ in range(5)] == ["new"] * 5
        assert sum("going on without it" in line.message for line in caplog.records) == 1
        await server.start()
        await eventually(kept)


async def test_a_silent_tracking_connection(redis_url: str) -> None:
    """When announcements stop coming, the local tier empties itself within about a second."""
    async with Server() as server, Proxy(server.port) as proxy:
        client = await init(proxy.url, timeouts=0.2, fail_open=True)

        @cached(namespace="quiet", local=True)
        async def get() -> int:
            return 1

        async def kept() -> bool:
            await get()
            return len(client.local) == 1

        await eventually(kept)
        proxy.silent = True
        await eventually(lambda: len(client.local) == 0, timeout=3)

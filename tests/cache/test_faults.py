# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Faults: each is a real one, made by killing, freezing or cutting."""

import asyncio
import random
import subprocess
import sys
import time

import pytest
from redis.asyncio import Redis

from forktex_core.cache import (
    CacheClient,
    CacheUnavailableError,
    Settings,
    Tallies,
    Timeouts,
    cached,
    get_client,
    get_json,
    incr,
    init,
    rate_limit,
    set_json,
)
from tests.cache.servers import Proxy, Server
from tests.waiting import eventually


async def answers(client: CacheClient) -> bool:
    """Whether the server is reached."""
    return (await client.health()).ok


async def test_no_reply_reaches_another_caller(cache: CacheClient) -> None:
    """Thousands of calls cancelled at random moments: every reply is that of its own command."""
    await asyncio.gather(*[set_json(f"k{n}", n) for n in range(200)])
    rng = random.Random(7)
    wrong = finished = 0

    async def read(number: int) -> None:
        nonlocal wrong, finished
        value = await get_json(f"k{number}")
        finished += 1
        wrong += value != number

    for _ in range(50):
        tasks = [asyncio.create_task(read(rng.randrange(200))) for _ in range(80)]
        for task in rng.sample(tasks, 40):
            asyncio.get_running_loop().call_later(rng.random() * 0.01, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert finished > 1_000
    assert wrong == 0


async def test_a_reply_cut_in_the_middle(redis_url: str) -> None:
    """Half a reply is an error for its caller, and nothing of it is left for the next."""
    async with Server() as server, Proxy(server.port) as proxy:
        client = await init(proxy.url)
        await set_json("long", "x" * 5_000)
        await set_json("short", "y")
        proxy.cut_after = 3_000
        with pytest.raises(CacheUnavailableError):
            await get_json("long")
        proxy.cut_after = None
        assert await get_json("short") == "y"
        assert await get_json("long") == "x" * 5_000
        await client.close()


async def test_a_connection_with_unread_data_is_not_used() -> None:
    """A reply that nobody asked for is nobody's: its connection is replaced before it is used."""
    async with Server() as server, Proxy(server.port) as proxy:
        await init(proxy.url)
        await set_json("k", 1)
        before = proxy.connections
        proxy.inject(b"$1\r\n9\r\n")
        async with Redis.from_url(proxy.url) as other:  # a later round trip through the same proxy
            await other.get("k")
        assert [await get_json("k") for _ in range(3)] == [1, 1, 1]
        assert proxy.connections == before + 2


async def test_a_server_restart(caplog: pytest.LogCaptureFixture) -> None:
    """Calls fail while it is down; the first after its return succeed without any help."""
    async with Server() as server:
        client = await init(server.url)
        assert await incr("n") == 1
        server.kill()
        with pytest.raises(CacheUnavailableError):
            await incr("n")
        await server.start()
        await eventually(lambda: answers(client))
        assert await incr("n") == 1
        assert (await rate_limit("x", key="k", limit=1, window_seconds=60)).ok


async def test_a_silent_server_costs_little() -> None:
    """A black hole is asked three times and then once a second; it is found again."""
    async with Server() as server, Proxy(server.port) as proxy:
        client = await init(proxy.url, timeouts=0.1)
        proxy.silent = True
        before, started = proxy.requests, time.monotonic()
        for _ in range(100):
            with pytest.raises(CacheUnavailableError):
                await get_json("k")
        with pytest.raises(CacheUnavailableError, match="calls in a row got no answer"):
            await get_json("k")
        probes = int(time.monotonic() - started) + 1
        assert proxy.requests - before <= 3 + probes
        proxy.silent = False
        await eventually(lambda: answers(client))
        assert await get_json("k") is None


async def test_a_frozen_server_and_fail_open(
    caplog: pytest.LogCaptureFixture, tallies: Tallies
) -> None:
    """A frozen server: cached functions compute without asking it each time, one line in the log
    says so, and the hook hears of every call that went without it.
    """
    async with Server() as server, Proxy(server.port) as proxy:
        await init(proxy.url, timeouts=0.1, fail_open=True, hook=tallies)

        @cached(namespace="frozen")
        async def get(number: int) -> int:
            return number

        server.pause()
        before, started = proxy.requests, time.monotonic()
        assert [await get(number) for number in range(200)] == list(range(200))
        probes = int(time.monotonic() - started) + 1
        assert proxy.requests - before <= 3 + probes
        assert tallies["frozen:get", "error"].count == 200
        assert (await rate_limit("frozen", key="k", limit=1, window_seconds=60)).ok
        assert tallies["frozen", "error"].count == 1
        server.resume()
    lines = [line.levelname for line in caplog.records if "going on without it" in line.message]
    assert lines == ["WARNING"]


async def test_an_exhausted_pool() -> None:
    """More callers than connections wait; those who wait too long are told what to raise."""
    async with Server() as server:
        timeouts = Timeouts(command=9, pool=1)
        client = await init(server.url, max_connections=2, timeouts=timeouts)
        await asyncio.gather(*[incr("n") for _ in range(200)])
        assert await get_json("n") == 200
        async with Redis.from_url(server.url) as other:

            async def blocked() -> bool:
                clients = await other.info("clients")
                return bool(clients["blocked_clients"] == 2)

            holders = [
                asyncio.create_task(client.execute("x", "BLPOP", "list", 0)) for _ in range(2)
            ]
            await eventually(blocked)
            with pytest.raises(CacheUnavailableError, match=r"all 2 connections.*max_connections"):
                await get_json("n")
            await other.rpush("list", "a", "b")
        await asyncio.gather(*holders)
        assert await get_json("n") == 200


async def test_a_flushed_script(cache: CacheClient) -> None:
    """SCRIPT FLUSH between calls is not noticed, and no call counts twice."""
    for count in range(1, 6):
        assert await incr("n", ttl=60) == count
        await get_client().script_flush()
        decision = await rate_limit("f", key="k", limit=3, window_seconds=60)
        assert decision.ok == (count <= 3)


SKEWED = """
import asyncio, sys, time
real, ns = time.time, time.time_ns
time.time = lambda: real() + float(sys.argv[2])
time.time_ns = lambda: ns() + int(float(sys.argv[2]) * 1e9)
from forktex_core.cache import cached, close, init, rate_limit
calls = []
@cached(ttl=60, namespace="skew", stale_while_revalidate=60, key="x")
async def get() -> str:
    calls.append(1)
    return "v"
async def main():
    await init(sys.argv[1])
    ok, after = await rate_limit("skew", key="k", limit=2, window_seconds=60)
    await get()
    await close()
    print(int(ok), len(calls))
asyncio.run(main())
"""


async def test_clock_skew_between_hosts(redis_url: str) -> None:
    """Hosts whose clocks are hours apart share one window and agree on what is fresh."""
    results = []
    for skew in ("0", "-7200", "7200"):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", SKEWED, redis_url, skew],
            capture_output=True,
            text=True,
            check=True,
        )
        results.append(done.stdout.strip())
    assert results == ["1 1", "1 0", "0 0"]


async def test_two_clients_in_one_process(redis_url: str) -> None:
    """A client that isn't registered works the same and closes with its block."""
    async with CacheClient(Settings(redis_url)) as client:
        await set_json("k", 1, client=client)
        assert await get_json("k", client=client) == 1
    await client.close()

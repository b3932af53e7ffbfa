# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`cached` in several processes: one of them computes, however they were brought to it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forktex_core.cache import CacheClient, get_client
from tests.waiting import eventually

PROCESSES = 4
CALLERS = 250

WORKER = """
import asyncio, sys
from forktex_core.cache import cached, close, get_client, incr, init

url, callers, early, stale = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

@cached(ttl=100, namespace="fleet", early_refresh=early, stale_while_revalidate=stale)
async def dear(key: str) -> int:
    count = await incr("computed")
    await reached("gate")
    return count

async def reached(name):
    while not await get_client().exists(name):
        await asyncio.sleep(0.01)

async def main():
    await init(url, timeouts=9)
    await incr("ready")
    await reached("go")
    calls = [asyncio.create_task(dear("k")) for _ in range(callers)]
    await asyncio.sleep(0)
    await incr("calling")
    print(sorted(set(await asyncio.gather(*calls))), flush=True)
    await incr("served")
    await reached("stop")
    await close()

asyncio.run(main())
"""
KEY = "fleet:dear::{k}"


async def counted(name: str, number: int) -> None:
    """Wait until so many have counted themselves."""
    await eventually(lambda: _reached(name, number), timeout=20)


async def _reached(name: str, number: int) -> bool:
    return int(await get_client().get(name) or 0) == number


@asynccontextmanager
async def fleet(
    url: str, processes: int, early: float = 0, stale: int = 0
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """So many processes, each with `CALLERS` callers, that have begun when the block does."""
    words = ("-c", WORKER, url, str(CALLERS), str(early), str(stale))
    client = get_client()
    await client.delete("go", "stop", "ready", "calling", "served")
    started = [
        await asyncio.create_subprocess_exec(sys.executable, *words, stdout=-1)
        for _ in range(processes)
    ]
    await counted("ready", processes)
    await client.set("go", 1)
    yield started
    await client.set("stop", 1)
    for process in started:
        assert await process.wait() == 0


async def said(processes: list[asyncio.subprocess.Process]) -> set[str]:
    """The different values that the callers of all processes got."""
    lines = [await each.stdout.readline() for each in processes if each.stdout]
    return {line.decode().strip() for line in lines}


async def test_a_thousand_cold_callers_of_a_fleet_compute_once(
    cache: CacheClient, redis_url: str
) -> None:
    """Of 1,000 callers in four processes one computes; all get its value."""
    async with fleet(redis_url, PROCESSES) as processes:
        await counted("calling", PROCESSES)
        await get_client().set("gate", 1)
        assert await said(processes) == {"[1]"}
    assert await get_client().get("computed") == b"1"


@pytest.mark.parametrize(("early", "stale", "left"), [(1e12, 0, 50_000), (0, 200, 150_000)])
async def test_a_fleet_refreshes_once(
    cache: CacheClient, redis_url: str, early: float, stale: int, left: int
) -> None:
    """1,000 callers in four processes find a value due for its early refresh (XFetch), or stale:
    all get it at once, and it is computed once in the background.
    """
    client = get_client()
    await client.set("gate", 1)
    async with fleet(redis_url, 1, early, stale) as one:
        assert await said(one) == {"[1]"}
    assert await client.get("computed") == b"1"
    await client.delete("gate")
    await client.pexpire(KEY, left)
    async with fleet(redis_url, PROCESSES, early, stale) as processes:
        assert await said(processes) == {"[1]"}
        await counted("computed", 2)
        await client.set("gate", 1)
        await eventually(_renewed)
    assert await client.get("computed") == b"2"


async def _renewed() -> bool:
    return (await get_client().get(KEY) or b"").endswith(b"2")

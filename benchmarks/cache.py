# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The cache against raw redis-py and its peers, on one server, in one run.

``python benchmarks/cache.py`` makes an environment of its own below ``.tools/`` (git-ignored) with
this package, cashews, aiocache and limits, and runs itself there. Each contender has the same
number of calls per round; rounds alternate; the figures are medians over the rounds. It ends with
an error when a promise of the documentation doesn't hold.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".tools" / "benchmark-cache"
PEERS = ["aiocache[redis]", "cashews[redis]", "limits[async-redis]"]
ROUNDS, CALLS = 60, 100
VALUE = {"id": 42, "name": "x" * 200, "roles": ["a", "b"]}

type Call = Callable[[], Awaitable[Any]]


def own_environment() -> Path:
    """The Python of the benchmark's environment, made when it is missing."""
    python = HOME / "bin" / "python"
    if not (HOME / "ready").exists():
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[embedded]", *PEERS], check=True
        )
        (HOME / "ready").touch()
    return python


async def per_call(call: Call, calls: int = CALLS) -> float:
    """Microseconds per sequential call."""
    started = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - started) / calls * 1e6


async def compare(title: str, contenders: dict[str, Call], floor: str) -> dict[str, float]:
    """Print medians of alternating rounds and their ratio to the floor; return the ratios."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        await per_call(call, 50)
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            times[name].append(await per_call(call))
    print(f"\n{title}")
    ratios = {}
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, times[floor], strict=True))
        ratios[name] = ratio
        ratios[f"{name}, us"] = statistics.median(taken)
        print(f"  {name:34} {statistics.median(taken):8.1f} us   {ratio:5.2f} x")
    return ratios


async def hits(url: str) -> dict[str, float]:
    """A cache hit."""
    from aiocache import RedisCache
    from aiocache import cached as aiocache_cached
    from aiocache.serializers import JsonSerializer
    from cashews import Cache
    from redis.asyncio import Redis

    from forktex_core.cache import cached, get_client

    raw: Any = Redis.from_url(url)
    await raw.set("raw", json.dumps(VALUE))

    @cached(ttl=300, namespace="bench")
    async def ours(user_id: str):  # type: ignore[no-untyped-def]
        return VALUE

    @cached(ttl=300, namespace="bench:local", local=True)
    async def ours_local(user_id: str):  # type: ignore[no-untyped-def]
        return VALUE

    peer = Cache()
    peer.setup(url)

    @peer(ttl="5m", key="bench:{user_id}")
    async def cashews(user_id: str):  # type: ignore[no-untyped-def]
        return VALUE

    host = get_client().connection_pool.connection_kwargs  # type: ignore[union-attr]
    place = {"endpoint": host["host"], "port": host["port"], "password": host.get("password")}

    @aiocache_cached(ttl=300, cache=RedisCache, serializer=JsonSerializer(), **place)
    async def aiocache(user_id: str):  # type: ignore[no-untyped-def]
        return VALUE

    async def floor() -> Any:
        return json.loads(await raw.get("raw"))

    for _ in range(100):  # until the tracking connection is up
        await ours_local("u42")
        await asyncio.sleep(0.01)
    contenders: dict[str, Call] = {
        "raw GET and json.loads": floor,
        "forktex_core": lambda: ours("u42"),
        "forktex_core, second level": lambda: ours_local("u42"),
        "cashews": lambda: cashews("u42"),
        "aiocache": lambda: aiocache("u42"),
    }
    ratios = await compare("a hit, sequential", contenders, "raw GET and json.loads")
    await peer.close()
    await raw.aclose()
    return ratios


async def limiters(url: str) -> dict[str, float]:
    """An admitted call of a limiter."""
    from limits import RateLimitItemPerHour
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
    from redis.asyncio import Redis

    from forktex_core.cache import Limit, RateLimiter, rate_limit
    from forktex_core.cache.script import Script

    raw: Any = Redis.from_url(url)
    digest = await raw.script_load(Script("limit")._source)  # noqa: SLF001
    many = 1_000_000
    storage = RedisStorage(f"async+{url}", implementation="redispy")
    item = RateLimitItemPerHour(many)
    window, counter = MovingWindowRateLimiter(storage), SlidingWindowCounterRateLimiter(storage)
    log = RateLimiter("log", Limit(1_000, 0.001, "log"))
    buckets = RateLimiter("buckets", Limit(many, 3600))

    async def floor() -> Any:
        arguments = ("take", 1, "log", 1_000, 1_000, 1_000)
        return await raw.evalsha(digest, 1, "raw-limit", *arguments)

    contenders: dict[str, Call] = {
        "raw EVALSHA of the same script": floor,
        "forktex_core, exact log": lambda: log.hit("k"),
        "forktex_core, two buckets": lambda: buckets.hit("k"),
        "forktex_core, rate_limit()": lambda: rate_limit(
            "f", key="k", limit=1_000, window_seconds=0.001
        ),
        "limits, moving window": lambda: window.hit(item, "k"),
        "limits, sliding counter": lambda: counter.hit(item, "k"),
    }
    ratios = await compare("a limiter, admitted", contenders, "raw EVALSHA of the same script")
    await raw.aclose()
    return ratios


async def stampede() -> int:
    """How often 1,000 concurrent callers of one cold key compute."""
    from forktex_core.cache import cached

    calls = 0

    @cached(namespace="bench:cold")
    async def dear(key: str) -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return 1

    await asyncio.gather(*[dear("k") for _ in range(1_000)])
    print(f"\n1,000 concurrent callers of one cold key compute {calls} time(s)")
    return calls


async def memory() -> None:
    """Bytes per limited key."""
    from forktex_core.cache import Limit, RateLimiter, get_client
    from forktex_core.cache.registry import client_named

    print("\nbytes per limited key at limit 5 / 100 / 1000")
    for algorithm in ("log", "buckets", "gcra"):
        sizes = []
        for limit in (5, 100, 1_000):
            limiter = RateLimiter("memory", Limit(limit, 3600, algorithm))
            await limiter.hit("192.0.2.1", cost=limit)
            key = limiter._keys(client_named("default"), "192.0.2.1")[0]  # noqa: SLF001
            sizes.append(await get_client().memory_usage(key))
        print(f"  {algorithm:8} {' / '.join(map(str, sizes))}")


async def run() -> None:
    """Run everything on one embedded server and check what is promised."""
    from forktex_core.cache import close, init
    from forktex_core.embedded import EmbeddedRedis

    async with EmbeddedRedis() as server:
        await init(server.url)
        hit, limit = await hits(server.url), await limiters(server.url)
        computed = await stampede()
        await memory()
        await close()
    peers = min(hit["cashews"], hit["aiocache"])
    limiter = max(limit["forktex_core, exact log"], limit["forktex_core, two buckets"])
    promises = {
        "a hit costs at most 1.3x a raw GET plus decoding": hit["forktex_core"] <= 1.3,
        "a hit is ahead of every peer": hit["forktex_core"] < peers,
        "a second-level hit takes less than 5 us": hit["forktex_core, second level, us"] < 5,
        "the limiter costs at most 1.3x a raw EVALSHA": limiter <= 1.3,
        "the limiter is ahead of every peer": limiter
        < min(limit["limits, moving window"], limit["limits, sliding counter"]),
        "1,000 cold callers compute once": computed == 1,
    }
    print()
    for promise, kept in promises.items():
        print(f"  {'kept  ' if kept else 'BROKEN'} {promise}")
    if not all(promises.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    if "--here" in sys.argv:
        asyncio.run(run())
    else:
        raise SystemExit(subprocess.call([own_environment(), __file__, "--here"]))

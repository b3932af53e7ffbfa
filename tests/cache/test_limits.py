# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Limiters on a real server, against an exact reference."""

import asyncio
import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from forktex_core.cache import (
    CacheClient,
    CacheConfigurationError,
    CacheUnavailableError,
    Limit,
    RateLimiter,
    get_client,
    init,
    rate_limit,
)
from tests.cache.servers import Server


async def wait_until(moment: float) -> None:
    """Let the wall clock reach a moment of the monotonic clock."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def test_the_seed_example(cache: CacheClient) -> None:
    """Five of six calls pass; the sixth is told to wait for the first to leave the window."""
    decisions = [
        await rate_limit("login", key="1.2.3.4", limit=5, window_seconds=60) for _ in range(6)
    ]
    assert [ok for ok, _ in decisions] == [True] * 5 + [False]
    assert all(retry_after == 0 for _, retry_after in decisions[:5])
    assert 59 < decisions[5].retry_after <= 60
    assert (await rate_limit("login", key="5.6.7.8", limit=5, window_seconds=60)).ok
    assert (await rate_limit("other", key="1.2.3.4", limit=5, window_seconds=60)).ok


@pytest.mark.parametrize("algorithm", ["log", "buckets", "gcra"])
async def test_retry_after_is_exact(cache: CacheClient, algorithm: str) -> None:
    """Waiting just that long is enough, every time; a call before is denied and pushes nothing."""
    limiter = RateLimiter("exact", Limit(4, 0.2, algorithm))  # type: ignore[arg-type]
    for _ in range(8):
        ok, retry_after = await limiter.hit("k")
        answered = time.monotonic()
        while ok:
            ok, retry_after = await limiter.hit("k")
            answered = time.monotonic()
        assert 0 < retry_after <= 0.4
        if retry_after > 0.02:
            again = await limiter.hit("k")
            assert not again.ok
            assert again.retry_after < retry_after
        await wait_until(answered + retry_after)
        assert (await limiter.hit("k")).ok


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 6)), min_size=1, max_size=60),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
def test_the_log_is_an_exact_sliding_window(
    redis_url: str, limit: int, calls: list[tuple[int, int]]
) -> None:
    """Decisions and waits equal a reference that keeps every admission, at the server's times.

    The script's clock is the only thing replaced: it is given the time as an argument.
    """
    import redis as driver

    from forktex_core.cache.script import Script

    source = Script("limit")._source.replace(
        "redis.call('TIME')", "cjson.decode(table.remove(ARGV))"
    )
    window, now = 1_000_000, 1_700_000_000_000_000
    admitted: list[int] = []
    with driver.Redis.from_url(redis_url) as client:
        client.delete("ref")
        for pause, asked in calls:
            cost = min(asked, limit)
            now += pause * 1_000
            clock = f"[{now // 1_000_000},{now % 1_000_000}]"
            wait = client.eval(source, 1, "ref", "take", cost, "log", limit, window, limit, clock)
            inside = [at for at in admitted if at + window > now]
            if len(inside) + cost <= limit:
                expected = 0
                admitted += [now] * cost
            else:
                blocking = sorted(inside, reverse=True)[limit - cost]
                expected = blocking + window - now
            assert wait == expected
            client.persist("ref")  # its expiry follows the real clock, which stands still here


@pytest.mark.parametrize(("algorithm", "bound"), [("log", 10), ("buckets", 19), ("gcra", 20)])
async def test_no_window_admits_more_than_the_bound(
    redis_url: str, algorithm: str, bound: int
) -> None:
    """Greedy and seam-seeking callers of a limit of 10: the most that any window admits."""
    from forktex_core.cache.script import Script

    source = Script("limit")._source.replace(
        "redis.call('TIME')", "cjson.decode(table.remove(ARGV))"
    )
    window, limit = 1_000_000, 10
    greedy = list(range(0, 5 * window, 7_000))
    seam = [0, *range(window - 9, window), *range(window, 3 * window, 5_000)]
    worst = 0
    async with Redis.from_url(redis_url) as client:
        for times in (greedy, seam):
            await client.delete("bound")
            admitted = []
            for offset in times:
                now = 1_700_000_000_000_000 + offset
                clock = f"[{now // 1_000_000},{now % 1_000_000}]"
                arguments = ("take", 1, algorithm, limit, window, limit, clock)
                if await client.eval(source, 1, "bound", *map(str, arguments)) == 0:
                    admitted.append(now)
                await client.persist("bound")
            for start in admitted:
                worst = max(worst, sum(start <= at < start + window for at in admitted))
    assert limit <= worst <= bound


async def test_several_limits_are_one_decision(cache: CacheClient) -> None:
    """A call has to fit all limits; one denied by any counts in none."""
    limits = [Limit(2, 0.1), Limit(3, 60)]
    decisions = [(await rate_limit("m", key="k", limits=limits)).ok for _ in range(3)]
    assert decisions == [True, True, False]
    limiter = RateLimiter("m", *limits)
    assert (await limiter.peek("k")).used == (2, 2)
    _, retry_after = await limiter.hit("k")
    await asyncio.sleep(retry_after)
    assert (await limiter.hit("k")).ok
    denied = await limiter.hit("k")
    assert not denied.ok
    assert 59 < denied.retry_after <= 60


@pytest.mark.parametrize("algorithm", ["log", "buckets", "gcra"])
async def test_cost_peek_and_reset(cache: CacheClient, algorithm: str) -> None:
    """A cost counts at once, peek counts nothing, reset forgets."""
    limiter = RateLimiter("c", Limit(10, 60, algorithm))  # type: ignore[arg-type]
    assert (await limiter.peek("k")).remaining == 10
    assert (await limiter.hit("k", cost=7)).ok
    for _ in range(3):
        usage = await limiter.peek("k")
        assert (usage.used, usage.remaining, usage.retry_after) == ((7,), 3, 0)
    assert not (await limiter.hit("k", cost=4)).ok
    assert (await limiter.hit("k", cost=3)).ok
    assert (await limiter.peek("k")).retry_after > 0
    await limiter.reset("k")
    assert (await limiter.peek("k")).used == (0,)


async def test_gcra_spaces_calls(cache: CacheClient) -> None:
    """With a burst of 1, calls are admitted a window's share apart."""
    limiter = RateLimiter("g", Limit(10, 1, "gcra", burst=1))
    assert (await limiter.hit("k")).ok
    ok, retry_after = await limiter.hit("k")
    assert not ok
    assert 0.05 < retry_after <= 0.1
    with pytest.raises(CacheConfigurationError, match="a cost is 1 to 1"):
        await limiter.hit("k", cost=2)


async def test_concurrent_callers_share_the_limit(cache: CacheClient) -> None:
    """Of 500 concurrent calls exactly the limit pass."""
    limiter = RateLimiter("conc", Limit(100, 60))
    decisions = await asyncio.gather(*[limiter.hit("k") for _ in range(500)])
    assert sum(decision.ok for decision in decisions) == 100


async def test_a_clock_set_back_locks_nobody_out(cache: CacheClient) -> None:
    """Admissions of the future (the clock was set back by an hour) start the window anew."""
    limiter = RateLimiter("back", Limit(2, 60))
    [key] = limiter._keys(cache, "k")
    seconds, _ = await get_client().time()
    await get_client().lpush(key, *[str((seconds + 3600) * 1_000_000)] * 2)
    assert (await limiter.hit("k")).ok


async def test_memory_per_limited_key(cache: CacheClient) -> None:
    """The bytes per key that the guide states."""
    sizes = {}
    for algorithm, limit in itertools.product(("log", "buckets", "gcra"), (5, 100, 1000)):
        limiter = RateLimiter("b", Limit(limit, 60, algorithm))  # type: ignore[arg-type]
        await limiter.hit("k", cost=limit)
        [key] = limiter._keys(cache, "k")
        sizes[algorithm, limit] = await get_client().memory_usage(key)
    assert sizes["log", 5] <= 300
    assert sizes["log", 100] <= 1_500
    assert sizes["log", 1000] <= 12_000
    assert max(sizes["buckets", n] for n in (5, 100, 1000)) <= 160
    assert max(sizes["gcra", n] for n in (5, 100, 1000)) <= 128


async def test_limiters_fail_as_told() -> None:
    """Redis down: open admits, closed denies with a wait, neither raises, the client may say
    open.
    """
    async with Server() as server:
        await init(server.url)
        server.kill()
        options = {"key": "k", "limit": 1, "window_seconds": 60}
        assert await rate_limit("o", **options, fail_open=True) == (True, 0.0)  # type: ignore[call-overload]
        ok, retry_after = await rate_limit("c", **options, fail_closed=True)  # type: ignore[call-overload]
        assert not ok
        assert retry_after > 0
        with pytest.raises(CacheUnavailableError):
            await rate_limit("r", **options)  # type: ignore[call-overload]


def test_limits_that_cannot_be_kept_are_refused() -> None:
    """Zero, unknown algorithms, a burst for another algorithm, no limit, both ways to fail."""
    for arguments in ((0, 1), (1, 0), (1, 1, "fast"), (1, 1, "log", 2), (10**7, 1, "gcra")):
        with pytest.raises(CacheConfigurationError):
            Limit(*arguments)  # type: ignore[arg-type]
    with pytest.raises(CacheConfigurationError, match="needs a limit"):
        RateLimiter("x")
    with pytest.raises(CacheConfigurationError, match="both open and closed"):
        RateLimiter("x", Limit(1, 1), fail_open=True, fail_closed=True)


def test_large_limits_are_kept_in_constant_memory() -> None:
    """Above 1,000 two buckets are the default; below it the exact log."""
    assert Limit(1_000, 1).chosen == "log"
    assert Limit(1_001, 1).chosen == "buckets"

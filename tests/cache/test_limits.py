# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Limiters on a real server, against an exact reference."""

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis as driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from forktex_core.cache.limit import Algorithm
from forktex_core.cache.script import Script
from tests.cache.servers import Server, overheard

SCRIPT = Script("limit")._source.replace("redis.call('TIME')", "cjson.decode(table.remove(ARGV))")
START = 1_700_000_000_000_000


class Clocked:
    """Limits of one caller, judged by the real script on a real server, at the test's times.

    The clock is the only thing replaced: the script is given the time as an argument.
    """

    def __init__(self, client: driver.Redis, *limits: Limit) -> None:
        self._client = client
        self._keys = [f"clocked-{number}" for number in range(len(limits))]
        self._arguments = RateLimiter("clocked", *limits)._arguments
        client.delete(*self._keys)

    def wait(self, at: int, cost: int = 1, mode: str = "take") -> int:
        """The script's answer at a microsecond: 0 for admitted, else how long to wait."""
        reply = self._answer(at, cost, mode)
        return int(reply[0] if mode == "peek" else reply)

    def used(self, at: int) -> int:
        """What the first limit counts at a microsecond."""
        return int(self._answer(at, 1, "peek")[1])

    def _answer(self, at: int, cost: int, mode: str) -> Any:
        clock = f"[{at // 1_000_000},{at % 1_000_000}]"
        words = (*self._keys, mode, cost, *self._arguments, clock)
        reply: Any = self._client.eval(SCRIPT, len(self._keys), *words)
        for key in self._keys:
            self._client.persist(key)  # its expiry follows the real clock, which stands still here
        return reply


@pytest.fixture
def direct(redis_url: str) -> Iterator[driver.Redis]:
    """A connection of the test's own."""
    with driver.Redis.from_url(redis_url) as client:
        yield client


async def the_server_s_clock_passes(pause: float) -> None:
    """Return when at least so many seconds have passed on the server's clock, and hardly more."""

    async def now() -> float:
        seconds, microseconds = await get_client().time()
        return float(seconds + microseconds / 1e6)

    end = await now() + pause
    while (left := end - await now()) > 0:
        await asyncio.sleep(left)


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
async def test_waiting_for_retry_after_is_enough(cache: CacheClient, algorithm: Algorithm) -> None:
    """A caller who waits just that long, on the server's clock, is admitted, every time."""
    limiter = RateLimiter("exact", Limit(4, 0.2, algorithm))
    for _ in range(8):
        ok, retry_after = await limiter.hit("k")
        while ok:
            ok, retry_after = await limiter.hit("k")
        assert 0 < retry_after <= 0.4
        await the_server_s_clock_passes(retry_after)
        assert (await limiter.hit("k")).ok


LIMITS = st.lists(
    st.builds(Limit, st.integers(1, 6), st.integers(1, 5), st.just("log")), min_size=1, max_size=2
)
CALLS = st.lists(st.tuples(st.integers(0, 1_500), st.integers(1, 6)), min_size=1, max_size=60)


@given(LIMITS, CALLS)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
def test_the_log_is_an_exact_sliding_window(
    direct: driver.Redis, limits: list[Limit], calls: list[tuple[int, int]]
) -> None:
    """Decisions and waits of one limit, and of two at once, equal a reference that keeps every
    admission: denied calls leave no trace in it.
    """
    limiter, now = Clocked(direct, *limits), START
    admitted: list[int] = []
    for pause, asked in calls:
        cost = min(asked, *(limit.limit for limit in limits))
        now += pause * 1_000
        expected = 0
        for limit in limits:
            inside = [at for at in admitted if at + limit.window > now]
            if len(inside) + cost > limit.limit:
                blocking = sorted(inside, reverse=True)[limit.limit - cost]
                expected = max(expected, blocking + limit.window - now)
        admitted += [now] * cost * (expected == 0)
        assert limiter.wait(now, cost) == expected


HAMMERED = range(START, START + 4_000_000, 19_980)
SEAM = [
    START,
    *range(START + 999_991, START + 1_000_000),
    *range(START + 1_000_000, START + 3_000_000, 5_000),
]


def most_in_a_window(admitted: list[int], window: int = 1_000_000) -> int:
    """The most admissions in any window."""
    return max(sum(start <= at < start + window for at in admitted) for start in admitted)


@pytest.mark.parametrize(
    ("algorithm", "times", "most"),
    [
        ("log", HAMMERED, 10),
        ("log", SEAM, 10),
        ("buckets", HAMMERED, 11),
        ("buckets", SEAM, 18),
        ("gcra", HAMMERED, 19),
        ("gcra", SEAM, 19),
    ],
)
def test_the_bounds_that_the_guide_states_are_reached(
    direct: driver.Redis, algorithm: Algorithm, times: Sequence[int], most: int
) -> None:
    """Limit 10: `limit`; `limit + 1` hammered and `2 * limit - 2` at the seam of two buckets;
    `limit + burst - 1`.
    """
    limiter = Clocked(direct, Limit(10, 1, algorithm))
    assert most_in_a_window([at for at in times if limiter.wait(at) == 0]) == most


@given(st.lists(st.integers(0, 600_000), min_size=1, max_size=80))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
def test_no_caller_exceeds_the_bound_of_two_buckets(
    direct: driver.Redis, pauses: list[int]
) -> None:
    """Whatever the times of the calls, no window holds more than ``2 * limit - 2``."""
    limiter = Clocked(direct, Limit(4, 1, "buckets"))
    times = itertools.accumulate(pauses, initial=START)
    assert most_in_a_window([at for at in times if limiter.wait(at) == 0]) <= 6


@given(st.integers(8_000, 60_000))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
def test_hammering_two_buckets_gives_one_more_at_most(direct: driver.Redis, step: int) -> None:
    """A caller who tries all the time, at whatever rate, gets ``limit + 1`` in a window at most."""
    limiter = Clocked(direct, Limit(10, 1, "buckets"))
    times = range(START, START + 3_000_000, step)
    assert most_in_a_window([at for at in times if limiter.wait(at) == 0]) <= 11


@pytest.mark.parametrize("algorithm", ["log", "buckets", "gcra"])
def test_retry_after_is_exact(direct: driver.Redis, algorithm: Algorithm) -> None:
    """To the microsecond of the server's clock: admitted after the wait, denied just before it,
    and being denied in between, however often, pushes nothing.
    """
    limiter = Clocked(direct, Limit(7, 1.000003, algorithm))
    rng, now, denied = random.Random(5), START, 0
    for _ in range(200):
        now += rng.randrange(400_000)
        cost = rng.randint(1, 3)
        if wait := limiter.wait(now, cost):
            denied += 1
            assert limiter.wait(now + wait // 2, cost) == wait - wait // 2
            assert limiter.wait(now + wait - 1, cost) == 1
            assert limiter.wait(now + wait, cost, "peek") == 0
            now += wait - 1
    assert 20 < denied < 180


@pytest.mark.parametrize(("algorithm", "least"), [("log", 60), ("buckets", 120), ("gcra", 60)])
async def test_state_outlives_what_it_counts(
    cache: CacheClient, algorithm: Algorithm, least: int
) -> None:
    """A key expires by itself, and not before its admissions have left every window."""
    limiter = RateLimiter("life", Limit(10, 60, algorithm))
    await limiter.hit("k", cost=10)
    [key] = limiter._keys(cache, "k")
    assert least - 3 < await get_client().pttl(key) / 1000 <= least + 1


def test_several_limits_are_one_decision(direct: driver.Redis) -> None:
    """10 a second and 12 an hour: a call counts in both or in neither; the longer wait is told."""
    limiter = Clocked(direct, Limit(10, 1), Limit(12, 3600))
    assert [limiter.wait(START) for _ in range(10)] == [0] * 10
    assert [limiter.wait(START + 400_000) for _ in range(20)] == [600_000] * 20
    assert [limiter.wait(START + 1_000_000) for _ in range(2)] == [0] * 2
    assert limiter.wait(START + 1_000_000) == 3_599_000_000
    assert limiter.wait(START + 3_600_000_000) == 0


async def test_several_limits_are_one_round_trip(cache: CacheClient, redis_url: str) -> None:
    """Three limits of three algorithms cost one command; so do peeking and resetting."""
    limiter = RateLimiter("m", Limit(10, 1), Limit(100, 60, "gcra"), Limit(10_000, 3600))
    assert (await limiter.hit("k")).ok
    async with overheard(redis_url) as commands:
        assert (await limiter.hit("k")).ok
        assert (await limiter.peek("k")).used[2] == 2
        await limiter.reset("k")
    assert commands == ["EVALSHA", "EVALSHA", "UNLINK"]
    limits = [Limit(2, 60), Limit(3, 3600)]
    assert [(await rate_limit("n", key="k", limits=limits)).ok for _ in range(3)] == [True] * 2 + [
        False
    ]


@pytest.mark.parametrize("algorithm", ["log", "buckets", "gcra"])
async def test_cost_peek_and_reset(cache: CacheClient, algorithm: Algorithm) -> None:
    """A cost counts at once, peek counts nothing, reset forgets."""
    limiter = RateLimiter("c", Limit(10, 60, algorithm))
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


@pytest.mark.parametrize(
    ("algorithm", "used"), [("log", [10, 10, 0]), ("buckets", [10, 10, 5]), ("gcra", [10, 5, 0])]
)
def test_peeking_tells_what_still_counts(
    direct: driver.Redis, algorithm: Algorithm, used: list[int]
) -> None:
    """Of ten admissions at once: right away, after half a window, and after one and a half."""
    limiter = Clocked(direct, Limit(10, 1, algorithm))
    assert limiter.wait(START, 10) == 0
    assert [limiter.used(START + pause) for pause in (0, 500_000, 1_500_000)] == used


async def test_gcra_spaces_calls(cache: CacheClient) -> None:
    """With a burst of 1, calls are admitted a window's share apart."""
    limiter = RateLimiter("g", Limit(10, 1000, "gcra", burst=1))
    assert (await limiter.hit("k")).ok
    ok, retry_after = await limiter.hit("k")
    assert not ok
    assert 50 < retry_after <= 100
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

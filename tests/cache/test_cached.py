# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`cached` on a real server."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import pickle
import uuid
from itertools import pairwise
from typing import Any

import pydantic
import pytest

from forktex_core.cache import (
    CacheClient,
    CacheConfigurationError,
    CacheUnavailableError,
    CacheValueError,
    Settings,
    Tallies,
    Timeouts,
    cached,
    delete,
    delete_pattern,
    get_client,
    get_json,
    get_or_set,
    init,
    ttl,
)
from tests.cache.counted import Counted
from tests.cache.servers import Server, overheard
from tests.waiting import eventually


class User(pydantic.BaseModel):
    id: uuid.UUID
    born: dt.date


@dataclasses.dataclass
class Money:
    amount: decimal.Decimal
    at: dt.datetime


async def age(key: str, left_ms: int) -> None:
    """Let an entry have only so much of its lifetime left."""
    assert await get_client().pexpire(f"svc:{key}", left_ms)


async def test_the_seed_example(cache: CacheClient) -> None:
    """The second call, positional or by keyword, is served without calling the function."""
    calls = []

    @cached(ttl=300, namespace="user:profile")
    async def get_profile(user_id: str):  # type: ignore[no-untyped-def]
        calls.append(user_id)
        return {"id": user_id}

    assert await get_profile("u1") == await get_profile(user_id="u1") == {"id": "u1"}
    assert calls == ["u1"]
    assert get_profile.key("u1") == "user:profile:get_profile::{u1}"
    assert await get_json(get_profile.key("u1")) == {"id": "u1"}
    assert 299 < (await ttl(get_profile.key("u1")) or 0) <= 300


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (User, User(id=uuid.UUID(int=7), born=dt.date(2026, 1, 2))),
        (list[User], [User(id=uuid.UUID(int=7), born=dt.date(2026, 1, 2))]),
        (Money, Money(decimal.Decimal("1.10"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))),
        (dt.datetime, dt.datetime(2026, 1, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (uuid.UUID, uuid.UUID(int=9)),
        (decimal.Decimal, decimal.Decimal("0.10")),
        (bytes, b"\x00\xff binary"),
        (tuple[int, ...], (1, 2)),
        (set[str], {"a"}),
        (float, float("inf")),
        (str | None, None),
        (dt.timedelta, dt.timedelta(seconds=1.5)),
    ],
)
async def test_values_come_back_as_annotated(cache: CacheClient, kind: Any, value: Any) -> None:
    """Miss and hit give equal values of the annotated type, and each caller a value of its own."""
    body = Counted(value)

    async def get() -> Any:
        return await body()

    get.__annotations__["return"] = kind
    function = cached(namespace="typed")(get)
    miss, hit = await function(), await function()
    assert miss == hit == value
    assert type(hit) is type(value)
    assert body.calls == 1


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, dt.date(2026, 1, 1), {"a": {"b"}}, object()])
async def test_without_an_annotation_only_json_is_kept(cache: CacheClient, value: object) -> None:
    """What would come back as something else is an error that asks for the type."""

    @cached(namespace="untyped")
    async def get():  # type: ignore[no-untyped-def]
        return value

    with pytest.raises(CacheValueError, match=r"untyped:get: .*state the type"):
        await get()


async def test_a_value_that_is_not_of_its_type_is_refused(cache: CacheClient) -> None:
    """A function that breaks its annotation is told at the call."""

    @cached(namespace="broken")
    async def get() -> User:
        return {"id": 1}  # type: ignore[return-value]

    with pytest.raises(CacheValueError, match="broken:get"):
        await get()


def test_a_type_without_json_is_refused_at_decoration() -> None:
    """A return type that nothing can write is an error where the function is decorated."""

    class Opaque: ...

    with pytest.raises(CacheConfigurationError, match="no JSON for"):

        @cached()
        async def get() -> Opaque:
            return Opaque()


async def test_a_value_too_large_is_refused(cache: CacheClient) -> None:
    """The error names the size and the limit, and nothing is stored."""

    @cached(namespace="large", max_bytes=100)
    async def get() -> str:
        return "x" * 100

    with pytest.raises(CacheValueError, match="102 bytes, the limit is 100"):
        await get()
    assert await get_json(get.key()) is None


async def test_a_thousand_callers_of_a_cold_key_compute_once(cache: CacheClient) -> None:
    """In one process one caller computes; all get the value."""
    body = Counted()

    @cached(namespace="cold")
    async def get(key: str) -> str:
        return str(await body())

    assert await asyncio.gather(*[get("k") for _ in range(1_000)]) == ["v"] * 1_000
    assert body.calls == 1


async def test_one_caller_in_the_fleet_computes(cache: CacheClient, redis_url: str) -> None:
    """Of two processes' worth of callers (two clients) one computes; the other's wait for it."""
    body = Counted()

    async def get(key: str) -> str:
        return str(await body())

    async with CacheClient(Settings(redis_url, "svc", timeouts=Timeouts(2, 2))) as other:
        mine = cached(namespace="fleet")(get)
        theirs = cached(namespace="fleet", client=other)(get)
        values = await asyncio.gather(*[f("k") for f in (mine, theirs) for _ in range(20)])
    assert values == ["v"] * 40
    assert body.calls == 1


async def test_a_dead_owner_s_lease_runs_out(cache: CacheClient) -> None:
    """When whoever held the lease died, the next computes after the lease, not never."""

    @cached(namespace="dead", lease=0.2)
    async def get() -> int:
        return 1

    await get_client().set(f"svc:{get.key()}!lease", "dead", px=200)
    assert await get() == 1


async def test_a_lease_is_renewed_while_its_owner_computes(
    cache: CacheClient, redis_url: str
) -> None:
    """A computation longer than its lease stays the only one."""
    body = Counted()
    body.gate.clear()
    lives: list[int] = []

    async def get() -> str:
        return str(await body())

    async def renewed_four_times() -> bool:
        lives.append(await get_client().pttl(f"svc:{mine.key()}!lease"))
        return sum(later > before for before, later in pairwise(lives)) >= 4

    async with CacheClient(Settings(redis_url, "svc", timeouts=Timeouts(2, 2))) as other:
        mine = cached(namespace="long", lease=1.5)(get)
        theirs = cached(namespace="long", lease=1.5, client=other)(get)
        first = asyncio.create_task(mine())
        await eventually(lambda: body.running)
        second = asyncio.create_task(theirs())
        await eventually(renewed_four_times)  # every third of the lease
        assert not second.done()
        body.gate.set()
        assert await first == await second == "v"
    assert body.calls == 1


async def test_invalidating_while_computing_discards_the_result(
    cache: CacheClient, redis_url: str
) -> None:
    """A value computed from what was before an invalidation, here or elsewhere, is never stored."""
    body = Counted("old")

    async def get() -> str:
        return str(await body())

    async with CacheClient(Settings(redis_url, "svc", timeouts=Timeouts(2, 2))) as other:
        mine = cached(namespace="inv")(get)
        theirs = cached(namespace="inv", client=other)(get)
        for invalidate in (mine.invalidate, theirs.invalidate):
            body.value = "old"
            body.gate.clear()
            first = asyncio.create_task(mine())
            await eventually(lambda: body.running)
            body.value = "new"
            await invalidate()
            late = asyncio.create_task(mine())
            body.gate.set()
            assert await first == "old"
            assert await late == "new"
            assert await mine() == "new"
            await invalidate()


async def test_a_pattern_deletes_leases_too(cache: CacheClient) -> None:
    """`delete_pattern` of a namespace discards what is being computed and counts only values."""
    body = Counted("old")

    @cached(namespace="pat")
    async def get() -> str:
        return str(await body())

    body.gate.clear()
    first = asyncio.create_task(get())
    await eventually(lambda: body.running)
    assert await delete_pattern(get.namespace.pattern()) == 0
    body.value = "new"
    body.gate.set()
    assert await first == "old"
    assert await get() == "new"
    assert await delete_pattern(get.namespace.pattern()) == 1


async def test_a_cancelled_leader_hands_over(cache: CacheClient) -> None:
    """When the computing caller is cancelled, a waiter computes; cancelled waiters disturb
    nobody.
    """
    body = Counted()
    body.gate.clear()

    @cached(namespace="hand")
    async def get() -> str:
        return str(await body())

    leader = asyncio.create_task(get())
    await eventually(lambda: body.running)
    waiters = [asyncio.create_task(get()) for _ in range(4)]
    await asyncio.sleep(0)  # each joins in its first step
    waiters[2].cancel()
    leader.cancel()
    await asyncio.wait([leader])
    body.gate.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert leader.cancelled()
    assert sum(result == "v" for result in results) == 3
    assert body.calls == 2


async def test_an_error_is_everybody_s_and_is_not_kept(cache: CacheClient) -> None:
    """Waiters get the leader's exception; the next call computes again."""
    body = Counted()
    body.error = LookupError("gone")

    @cached(namespace="err")
    async def get() -> str:
        return str(await body())

    body.gate.clear()
    leader = asyncio.create_task(get())
    await eventually(lambda: body.running)
    waiters = [asyncio.create_task(get()) for _ in range(10)]
    await asyncio.sleep(0)  # each joins in its first step
    body.gate.set()
    results = await asyncio.gather(leader, *waiters, return_exceptions=True)
    assert all(isinstance(result, LookupError) for result in results)
    assert body.calls == 1
    body.error = None
    assert await get() == "v"


async def test_stale_while_revalidate_serves_at_once(cache: CacheClient, tallies: Tallies) -> None:
    """Past its ttl the old value is served and one refresh runs in the background."""
    body = Counted("old")

    @cached(namespace="swr", ttl=10, stale_while_revalidate=60)
    async def get() -> str:
        return str(await body())

    assert await get() == "old"
    await age(get.key(), 50_000)
    body.value = "new"
    body.gate.clear()
    assert [await get() for _ in range(20)] == ["old"] * 20
    body.gate.set()
    await eventually(lambda: tallies["swr:get", "refresh"].count)
    assert await get() == "new"
    assert body.calls == 2
    assert tallies["swr:get", "stale"].count == 20


async def test_stale_if_error_serves_only_on_error(cache: CacheClient) -> None:
    """Past its ttl a value is computed anew; only if that fails is the old one served."""
    body = Counted("old")

    @cached(namespace="sie", ttl=10, stale_if_error=60)
    async def get() -> str:
        return str(await body())

    assert await get() == "old"
    await age(get.key(), 50_000)
    body.error = OSError("down")
    assert await get() == "old"
    body.error, body.value = None, "new"
    assert await get() == "new"
    await age(get.key(), 0 + 1)
    body.error = OSError("down")
    await eventually(lambda: _gone(get.key()))
    with pytest.raises(OSError, match="down"):
        await get()


async def _gone(key: str) -> bool:
    return not await get_client().exists(f"svc:{key}")


async def test_early_refresh_happens_in_the_background(
    cache: CacheClient, tallies: Tallies
) -> None:
    """Near its expiry a dear value is computed before it expires, while the old one is served."""
    body = Counted("old")

    @cached(namespace="early", ttl=100, early_refresh=1e12)
    async def get() -> str:
        return str(await body())

    await get()
    await age(get.key(), 50_000)
    body.value = "new"
    assert await get() == "old"
    await eventually(lambda: tallies["early:get", "refresh"].count)
    assert body.calls == 2


async def test_jitter_only_shortens(cache: CacheClient) -> None:
    """Lifetimes lie between (1 - jitter) * ttl and ttl, and differ."""

    @cached(namespace="jit", ttl=100, jitter=0.5)
    async def get(number: int) -> int:
        return number

    for number in range(20):
        await get(number)
    lifetimes = [await ttl(get.key(number)) or 0 for number in range(20)]
    assert all(49 < lifetime <= 100 for lifetime in lifetimes)
    assert max(lifetimes) - min(lifetimes) > 5


async def test_none_and_conditions(cache: CacheClient) -> None:
    """None is kept unless refused; a condition decides by the value; refused values replace
    none.
    """
    body = Counted(None)

    async def get() -> str | None:
        return await body()  # type: ignore[no-any-return]

    kept, refused = cached(namespace="n1")(get), cached(namespace="n2", cache_none=False)(get)
    assert await kept() is await kept() is None
    assert body.calls == 1
    assert await refused() is await refused() is None
    assert body.calls == 3
    chosen = cached(namespace="n3", condition=lambda value: value == "good")(get)
    body.value = "good"
    assert await chosen() == await chosen() == "good"
    body.value = "bad"
    assert await chosen.refresh() == "bad"
    assert await chosen() == "bad"
    assert await get_json(chosen.key()) is None


async def test_version_refresh_bypass_and_sync_functions(cache: CacheClient) -> None:
    """A new version starts anew; refresh recomputes; bypass doesn't touch; `def` runs in a
    thread.
    """
    calls: list[int] = []

    def get(number: int) -> int:
        calls.append(number)
        return len(calls)

    one = cached(namespace="v")(get)
    two = cached(namespace="v", version=2)(get)
    assert (await one(1), await one(1), await two(1), await one.refresh(1)) == (1, 1, 2, 3)
    assert (await one.bypass(1), await one(1)) == (4, 3)
    await one.invalidate(1)
    assert await one(1) == 5


async def test_a_hit_is_one_get(cache: CacheClient, redis_url: str) -> None:
    """Nothing but one GET goes to the server for a value that is there."""

    @cached(namespace="plain")
    async def get() -> int:
        return 1

    await get()
    async with overheard(redis_url) as commands:
        await get()
    assert commands == ["GET"]


class Bomb:
    """Makes itself known when it is unpickled."""

    went_off = False

    def __reduce__(self) -> Any:
        return (setattr, (Bomb, "went_off", True))


async def test_nothing_is_unpickled(cache: CacheClient) -> None:
    """A pickle that somebody put under a key is unreadable, not run; what is stored is JSON."""

    @cached(namespace="pickle")
    async def get() -> Any:
        return {"a": 1}

    await get_client().set(f"svc:{get.key()}", pickle.dumps(Bomb()), px=60_000)
    assert await get() == {"a": 1}
    assert not Bomb.went_off
    assert await get_client().get(f"svc:{get.key()}") == b'{"a":1}'


async def test_what_another_version_stored_is_computed_anew(cache: CacheClient) -> None:
    """An unreadable entry is a miss and is replaced."""

    @cached(namespace="corrupt")
    async def get() -> int:
        return 5

    for data in (b"not json", b'{"a": 1}', b"\xf1", b"\xf1" * 40, b""):
        await get_client().set(f"svc:{get.key()}", data, px=60_000)
        assert await get() == 5
        assert await get_json(get.key()) == 5


async def test_methods(cache: CacheClient) -> None:
    """Methods share entries by their instance's key, and have the same operations."""

    class Shop:
        def __init__(self, name: str) -> None:
            self.name, self.calls = name, 0

        def __cache_key__(self) -> str:
            return self.name

        @cached(namespace="shop")
        async def price(self, item: str) -> str:
            """The price."""
            self.calls += 1
            return f"{self.name}-{item}"

    a, b = Shop("a"), Shop("b")
    assert (await a.price("x"), await b.price("x"), await a.price("x")) == ("a-x", "b-x", "a-x")
    assert (a.calls, b.calls) == (1, 1)
    await a.price.invalidate("x")
    await a.price.refresh("x")
    assert await a.price.bypass("x") == "a-x"
    assert a.calls == 3
    assert Shop.price.__doc__ == "The price."


async def test_class_and_static_methods(cache: CacheClient) -> None:
    """Above `@classmethod` the class is part of the key; above `@staticmethod` nothing is."""
    calls: list[str] = []

    class Shop:
        @cached(namespace="shops")
        @classmethod
        async def names(cls, town: str) -> str:
            calls.append(cls.__name__)
            return f"{cls.__name__}-{town}"

        @cached(namespace="shops")  # type: ignore[arg-type]  # typed as a method, like a function
        @staticmethod
        async def count(town: str) -> int:
            calls.append(town)
            return 1

    class Kiosk(Shop):
        pass

    for _ in range(2):
        assert (await Shop.names("x"), await Shop().names("x")) == ("Shop-x", "Shop-x")
        assert await Kiosk.names(town="x") == "Kiosk-x"
        assert await Shop.count("y") == await Shop().count("y") == 1
    assert calls == ["Shop", "Kiosk", "y"]
    await Kiosk.names.invalidate("x")
    assert await Shop.names("x")
    assert await Kiosk.names.refresh("x") == "Kiosk-x"
    assert calls == ["Shop", "Kiosk", "y", "Kiosk"]


async def test_get_or_set(cache: CacheClient) -> None:
    """A missing key is computed once, by async or plain functions, and read as its type."""
    body = Counted(3)
    values = await asyncio.gather(*[get_or_set("k", body, int, ttl=5) for _ in range(9)])
    assert values == [3] * 9
    assert body.calls == 1
    assert await get_or_set("d", lambda: dt.date(2026, 1, 1), dt.date, ttl=5) == dt.date(2026, 1, 1)
    await delete("k")
    assert await get_or_set("k", lambda: 4, int, ttl=5) == 4


@pytest.mark.parametrize(
    "options", [{"ttl": 0}, {"jitter": 1}, {"stale_if_error": -1}, {"max_bytes": 0}, {"lease": 0}]
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """A ttl of nothing and the like are errors at decoration that name the option."""
    with pytest.raises(CacheConfigurationError, match=next(iter(options))):
        cached(**options)


def test_generators_are_refused() -> None:
    """Only values can be kept."""
    with pytest.raises(CacheConfigurationError, match="generator"):

        @cached()
        async def get() -> Any:
            yield 1


async def test_redis_down_is_one_clear_error() -> None:
    """Without fail_open the call raises, naming the server but not its password."""

    @cached(namespace="down")
    async def get() -> int:
        return 1

    async with Server() as server:
        await init(server.url)
        assert await get() == 1
        server.kill()
        with pytest.raises(CacheUnavailableError, match=f"127.0.0.1:{server.port} is unavailable"):
            await get()
        assert await cached(namespace="down", fail_open=True)(get.bypass)() == 1

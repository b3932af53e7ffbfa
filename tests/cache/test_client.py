# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Opening, closing, naming clients; typed operations; locks."""

import asyncio
import dataclasses
import datetime as dt
import gc
import math
import subprocess
import sys
from pathlib import Path

import pytest

from forktex_core import cache as module
from forktex_core.cache import (
    CacheClient,
    CacheCommandError,
    CacheConfigurationError,
    CacheEvent,
    CacheNotInitialisedError,
    CacheUnavailableError,
    CacheValueError,
    LockLostError,
    LockTimeoutError,
    Namespace,
    Settings,
    cached,
    close,
    delete,
    delete_pattern,
    exists,
    expire,
    get_client,
    get_json,
    hdel,
    health,
    hget,
    hgetall,
    hincr,
    hset,
    incr,
    init,
    invalidate_tags,
    lock,
    mget,
    mset,
    rate_limit,
    sadd,
    set_json,
    sismember,
    smembers,
    srem,
    ttl,
)
from tests.cache.servers import Proxy, Server, distribution_redis, overheard


@dataclasses.dataclass
class Point:
    x: int
    at: dt.date


def test_every_public_name_is_documented() -> None:
    """The surface is what `__all__` lists, sorted, and each name says what it is."""
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


def test_the_former_name_is_the_same_objects() -> None:
    """`forktex_core.redis` warns and gives the cache's objects; `redis` stays redis-py."""
    code = (
        "import warnings; warnings.simplefilter('error', DeprecationWarning)\n"
        "try:\n import forktex_core.redis\nexcept DeprecationWarning as w: print(w)\n"
        "warnings.simplefilter('ignore')\n"
        "import forktex_core.redis as old, forktex_core.cache as new\n"
        "assert all(getattr(old, n) is getattr(new, n) for n in new.__all__)\n"
        "import redis; assert redis.Redis\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is now called forktex_core.cache" in done.stdout


def test_importing_loads_no_driver() -> None:
    """The import is light: redis-py and pydantic are loaded when they are needed."""
    code = (
        "import sys, forktex_core.cache\n"
        "print({'redis', 'hiredis', 'pydantic', 'asyncpg', 'psycopg', 'sqlalchemy', 'obstore'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_init_twice(redis_url: str) -> None:
    """The same settings give the same client; others are an error that says what to do."""
    first = await init(redis_url)
    assert await init(redis_url) is first
    with pytest.raises(CacheConfigurationError, match=r"open with other settings.*close.*name="):
        await init(redis_url, prefix="other")
    await close()
    await close()
    assert await init(redis_url, prefix="other") is not first


async def test_use_before_init_and_after_close(redis_url: str) -> None:
    """Every entrance says that init is missing; a closed client, that it is closed."""

    @cached()
    async def get() -> int:
        return 1

    attempts = (get_json("k"), incr("k"), mset({"k": 1}), sadd("k", "x"), delete_pattern("*"))
    limited = rate_limit("n", key="k", limit=1, window_seconds=1)
    held = lock("l", ttl=1).__aenter__()
    for attempt in (*attempts, health(), invalidate_tags("t"), get(), get.refresh(), limited, held):
        with pytest.raises(CacheNotInitialisedError, match=r"await init\(url\)"):
            await attempt
    with pytest.raises(CacheNotInitialisedError, match="name='x'"):
        get_client("x")
    client = await init(redis_url)
    await close()
    with pytest.raises(CacheNotInitialisedError, match="is closed"):
        await get_json("k", client=client)


async def test_named_clients_do_not_meet(redis_url: str) -> None:
    """Several clients live beside each other, each with its prefix."""
    await init(redis_url, prefix="a")
    await init(redis_url, name="second", prefix="b")
    await set_json("k", 1)
    assert await get_json("k", client="second") is None
    assert await get_client().get("a:k") == b"1"
    assert await delete_pattern("*", client="second") == 0
    assert await get_json("k") == 1


def test_another_event_loop_is_told(redis_url: str) -> None:
    """A client of a closed loop is replaced by init; one of another living loop is an error."""
    first = asyncio.new_event_loop()
    first.run_until_complete(init(redis_url))

    async def use() -> None:
        with pytest.raises(CacheNotInitialisedError, match="another event loop"):
            await get_json("k")

    asyncio.run(use())
    first.run_until_complete(close())
    first.close()


async def test_an_unclosed_client_warns(redis_url: str) -> None:
    """Forgetting to close is a ResourceWarning."""
    client = await CacheClient(Settings(redis_url)).open()
    driver = client.driver
    with pytest.warns(ResourceWarning, match="unclosed CacheClient"):  # noqa: PT031  # del warns
        del client
        gc.collect()
    await driver.close()


async def test_a_server_that_is_not_there() -> None:
    """init raises without fail_open, and with it goes on."""
    async with Server() as server:
        server.kill()
        with pytest.raises(CacheUnavailableError, match="unavailable"):
            await init(server.url)
        await init(server.url, fail_open=True)
        state = await health()
        assert not state.ok
        assert "unavailable" in str(state.error)
        await server.start()


async def test_acl_users(redis_url: str) -> None:
    """A URL's user and password are used; a wrong password and a forbidden command are told
    apart.
    """
    async with Server() as server:
        await init(server.url)
        await get_client().execute_command(
            "ACL", "SETUSER", "app", "on", ">s@cret", "~app:*", "+@all", "-flushall"
        )
        url = server.url.replace("//", "//app:s%40cret@")
        app = await init(url, name="app", prefix="app")
        assert await set_json("k", 1, client="app")
        with pytest.raises(CacheCommandError, match="permission"):
            await app.execute("app:k", "FLUSHALL")
        with pytest.raises(CacheUnavailableError) as wrong:
            await init(url.replace("s%40cret", "wrong"), name="wrong")
        assert "s%40cret" not in str(wrong.value)
        assert "s@cret" not in repr(wrong.value)


async def test_a_socket(tmp_path: Path) -> None:
    """A server is reached by its socket's path, too."""
    socket = tmp_path / "s"
    async with Server("--unixsocket", str(socket)):
        await init(f"unix://{socket}?db=1", timeouts=2)
        assert await set_json("k", 1)
        assert await get_json("k") == 1


async def test_a_hook_that_fails_does_no_harm(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of the hook is logged; the value is served."""

    def hook(event: CacheEvent) -> None:
        raise ValueError(event.kind)

    @cached(namespace="hook")
    async def get() -> int:
        return 1

    await init(redis_url, hook=hook)
    assert await get() == 1
    assert "the hook failed on miss of hook:get" in caplog.text


async def test_hits_misses_and_decisions_are_reported(
    cache: CacheClient, tallies: module.Tallies
) -> None:
    """Each call is one event with its duration."""

    @cached(namespace="obs")
    async def get() -> int:
        return 1

    for _ in range(3):
        await get()
    assert (tallies["obs:get", "miss"].count, tallies["obs:get", "hit"].count) == (1, 2)
    for _ in range(3):
        await rate_limit("obs", key="k", limit=2, window_seconds=60)
    assert (tallies["obs", "allowed"].count, tallies["obs", "denied"].count) == (2, 1)
    assert 0 < tallies["obs:get", "hit"].longest < 1


async def test_operations(cache: CacheClient) -> None:
    """Each typed operation."""
    await check_operations()


async def test_operations_on_the_distribution_s_redis() -> None:
    """The same on another server than Valkey."""
    async with Server(program=distribution_redis()) as server:
        await init(server.url, prefix="p")
        await check_operations()
        await close()


async def check_operations() -> None:
    """Every operation once, with its edges."""
    point = Point(1, dt.date(2026, 1, 1))
    assert await set_json("p", point, ttl=60)
    assert await get_json("p", Point) == point
    assert not await set_json("p", point, nx=True)
    assert not await set_json("q", point, xx=True)
    assert await get_json("q", Point) is None
    assert await get_json("q", int, default=3) == 3
    assert 59 < (await ttl("p") or 0) <= 60
    assert await ttl("none") is None
    await mset({"a": 1, "b": point}, ttl=dt.timedelta(minutes=1))
    assert await mget(["b", "none", "a"]) == [{"x": 1, "at": "2026-01-01"}, None, 1]
    assert await mget(["b"], Point) == [point]
    assert await mget([]) == []
    assert await exists("a", "b", "none") == 2
    assert await delete("a", "b", "none") == 2
    assert [await incr("n", ttl=60), await incr("n", 5, ttl=1), await incr("n", -2)] == [1, 6, 4]
    assert (await ttl("n") or 0) > 59
    assert await expire("n", 5)
    assert not await expire("none", 5)
    await set_json("ever", 1)
    assert await ttl("ever") == math.inf
    assert await hset("h", {"a": 1, "b": point}, ttl=60) == 2
    assert await hget("h", "b", Point) == point
    assert await hget("h", "none") is None
    assert await hincr("h", "a", 4) == 5
    assert await hdel("h", "b", "none") == 1
    assert await hgetall("h", int) == {"a": 5}
    assert await hset("h", {"c": 1}) == 1
    assert await sadd("s", "x", "y", ttl=60) == 2
    assert await srem("s", "x") == 1
    assert await sadd("s", "y", "z") == 1
    assert await smembers("s") == {"y", "z"}
    assert await sismember("s", "y")
    space = Namespace("gone")
    await mset({space.key("a*", n): n for n in range(2_500)})
    await set_json(space.key("ab", 1), 1)
    assert await delete_pattern(space.pattern("a*", ...)) == 2_500
    assert await delete_pattern(space.pattern()) == 1
    async with lock("l", ttl=5) as held:
        assert held.token > 0


async def test_deleting_by_pattern_blocks_no_server(cache: CacheClient, redis_url: str) -> None:
    """SCAN and UNLINK in batches, never KEYS."""
    space = Namespace("many")
    await mset({space.key(n): n for n in range(3_000)})
    async with overheard(redis_url) as commands:
        assert await delete_pattern(space.pattern()) == 3_000
    assert set(commands) == {"SCAN", "UNLINK"}
    assert commands.count("UNLINK") <= commands.count("SCAN") <= 10


async def test_a_command_that_cannot_be_sent_is_no_outage(cache: CacheClient) -> None:
    """An argument without bytes is the caller's error, however often: the breaker stays closed."""
    for _ in range(5):
        with pytest.raises(CacheValueError, match="SADD: Invalid input of type"):
            await sadd("s", None)  # type: ignore[arg-type]
    assert await sadd("s", "x") == 1


async def test_operations_that_cannot_work(cache: CacheClient) -> None:
    """Wrong types, contradictory options and lifetimes of nothing are errors that name the key."""
    await set_json("k", "text")
    with pytest.raises(CacheCommandError, match="INCRBY"):
        await incr("k")
    with pytest.raises(CacheValueError, match="k: the stored value can't be read"):
        await get_json("k", int)
    with pytest.raises(CacheValueError, match="can't be stored"):
        await set_json("k", {1: 2})
    with pytest.raises(CacheConfigurationError, match="nx and xx"):
        await set_json("k", 1, nx=True, xx=True)
    with pytest.raises(CacheConfigurationError, match="millisecond"):
        await set_json("k", 1, ttl=0)
    with pytest.raises(CacheValueError):
        await mset({"a": 1, "b": {1: 2}})
    assert await exists("a") == 0


@pytest.mark.parametrize(
    "key", ["a\r\nFLUSHALL\r\n", "x" * 1_000_000, b"\x00\xff\r\n", "*", "{", ""]
)
async def test_hostile_keys(cache: CacheClient, key: str | bytes) -> None:
    """Newlines, a megabyte, binary, globs: a key is only ever itself."""
    await set_json("other", 1)
    await set_json(key, {"v": 2}, ttl=60)
    assert await get_json(key) == {"v": 2}
    assert await delete(key) == 1
    assert await get_json("other") == 1


async def test_locks_exclude_and_their_tokens_grow(cache: CacheClient) -> None:
    """One holder at a time, tokens grow, also after the server forgot the last one."""
    holders, most, tokens = 0, 0, []

    async def work() -> None:
        nonlocal holders, most
        async with lock("l", ttl=5) as held:
            holders += 1
            most = max(most, holders)
            await asyncio.sleep(0)
            tokens.append(held.token)
            holders -= 1

    await asyncio.gather(*[work() for _ in range(10)])
    assert most == 1
    assert tokens == sorted(set(tokens))
    await get_client().flushall()
    await work()
    assert tokens[-1] > tokens[-2]


async def test_a_held_lock_is_waited_for_only_so_long(cache: CacheClient) -> None:
    """Another's lock is an error after `wait`; a failing or cancelled holder gives it back."""
    async with lock("l", ttl=5) as held:
        with pytest.raises(LockTimeoutError, match="'l' is held by somebody else"):
            await lock("l", ttl=5, wait=0.05).__aenter__()
        await held.extend(10)
    with pytest.raises(LookupError):
        async with lock("l", ttl=5):
            raise LookupError
    async with lock("l", ttl=5, wait=1):
        pass


async def test_a_lost_lock_is_told(cache: CacheClient) -> None:
    """A lock that ran out is an error on extending and at the end of the block."""
    with pytest.raises(LockLostError, match="ran out before it was extended"):
        async with lock("l", ttl=5) as held:
            await get_client().unlink("svc:lock::{l}")
            await held.extend()
    with pytest.raises(LockLostError, match="before the block ended"):
        async with lock("l", ttl=5):
            await get_client().unlink("svc:lock::{l}")


async def test_a_lock_whose_grant_was_lost_is_given_back() -> None:
    """When the server grants but its reply never arrives, the lock doesn't wait for its ttl."""
    async with Server() as server, Proxy(server.port) as proxy:
        await init(proxy.url)
        async with lock("l", ttl=60):  # the script is known from here on
            pass
        proxy.cut_once = True
        with pytest.raises(CacheUnavailableError):
            await lock("l", ttl=60).__aenter__()
        async with lock("l", ttl=60, wait=5) as held:
            assert held.token

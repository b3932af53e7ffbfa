# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Start, use, restart, close."""

import asyncio
import gc
import stat
import warnings
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import forktex_core.embedded
from forktex_core.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedRedis,
    NotRunningError,
    StartError,
)
from tests.embedded.owners import processes_of
from tests.waiting import eventually

SERVERS = [EmbeddedPostgres, EmbeddedRedis]
Servers = type[EmbeddedPostgres] | type[EmbeddedRedis]


async def fetch(dsn: str, query: str) -> object:
    """One value from a database."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def answers(server: EmbeddedPostgres | EmbeddedRedis) -> bool:
    """Whether a client gets through."""
    if isinstance(server, EmbeddedPostgres):
        return await fetch(server.dsn, "SELECT true") is True
    client = redis.asyncio.Redis.from_url(server.url)
    try:
        return bool(await client.ping())
    finally:
        await client.aclose()


def test_public_surface() -> None:
    """Exactly these names are public."""
    assert sorted(forktex_core.embedded.__all__) == [
        "EmbeddedError",
        "EmbeddedPostgres",
        "EmbeddedRedis",
        "NotRunningError",
        "PathInUseError",
        "StartError",
        "WheelMissingError",
    ]


@pytest.mark.parametrize("version", [16, 18])
async def test_each_version_of_the_wheel_serves(version: int) -> None:
    """The version asked for answers, knows Unicode's letters, and is gone afterwards."""
    async with EmbeddedPostgres(version=version) as server:
        folder = server.path
        assert str(await fetch(server.dsn, "SHOW server_version")).startswith(f"{version}.")
        assert await fetch(server.dsn, "SELECT upper('äß€ж')") in {"ÄSS€Ж", "Äß€Ж"}
        assert await fetch(server.dsn, "SHOW timezone") == "UTC"
    assert not folder.exists()
    assert processes_of(folder) == []


async def test_another_installation_serves() -> None:
    """``bindir`` takes the programs of any installation (here the wheel's own, found by hand)."""
    async with EmbeddedPostgres() as first:
        programs = Path(f"/proc/{first.pid}/exe").readlink().parent
    async with EmbeddedPostgres(bindir=programs) as server:
        assert await answers(server)


@pytest.mark.parametrize("kind", SERVERS)
async def test_restart_keeps_address_and_data(kind: Servers) -> None:
    """``restart`` comes back on the same address, with the data, as another process."""
    async with kind() as server:
        url, pid = server.url, server.pid
        if isinstance(server, EmbeddedPostgres):
            await fetch(server.dsn, "CREATE TABLE kept AS SELECT 1")
        await server.restart()
        assert server.url == url
        assert server.pid != pid
        assert await answers(server)
        if isinstance(server, EmbeddedPostgres):
            assert await fetch(server.dsn, "SELECT count(*) FROM kept") == 1


@pytest.mark.parametrize("kind", SERVERS)
async def test_every_operation_may_be_repeated(kind: Servers) -> None:
    """start, stop and close do nothing the second time; a closed server can be opened anew."""
    server = kind()
    await server.close()
    await server.start()
    pid = server.pid
    await server.start()
    assert server.pid == pid
    assert server.running
    await server.stop()
    await server.stop()
    assert not server.running
    await server.start()
    assert await answers(server)
    folder = server.path
    await server.close()
    await server.close()
    assert not folder.exists()
    async with server:
        assert await answers(server)


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_that_does_not_run_says_so(kind: Servers) -> None:
    """Before the start and after the end, addresses and process ids are a clear error."""
    server = kind()
    for ask in (lambda: server.url, lambda: server.pid, lambda: server.path, lambda: server.port):
        with pytest.raises(NotRunningError, match="is not running: enter it with 'async with'"):
            ask()
    assert not server.running
    await server.kill()
    async with server:
        await server.stop()
        with pytest.raises(NotRunningError):
            _ = server.pid


def test_usable_without_asyncio() -> None:
    """A plain ``with`` does the same."""
    with EmbeddedRedis() as server:
        assert server.running
        folder = server.path
    assert not folder.exists()


async def test_unclosed_warns_and_closes() -> None:
    """A server that is dropped warns with ResourceWarning and leaves nothing."""
    server = EmbeddedRedis()
    await server.start()
    folder = server.path
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del server
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == [
        f"unclosed Redis in {folder}"
    ]
    await eventually(lambda: not folder.exists())


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("moment", ["", "data"])
async def test_a_cancelled_start_leaves_nothing(kind: Servers, moment: str, tmp_path: Path) -> None:
    """Cancelling ``async with`` during the start stops what was begun; the folder serves again."""
    server = kind(tmp_path / "server")
    task = asyncio.create_task(server.__aenter__())
    await eventually((tmp_path / "server" / moment).exists)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await server.close()
    assert processes_of(tmp_path) == []
    async with kind(tmp_path / "server") as again:
        assert await answers(again)


async def test_create_database() -> None:
    """It makes an empty database under any legal name; a second one of the name is refused."""
    async with EmbeddedPostgres() as server:
        url = await server.create_database('a "quoted" name')
        assert url.startswith("postgresql+asyncpg://")
        await server.create_database("plain")
        dsn = server.dsn.removesuffix("/postgres") + "/plain"
        assert await fetch(dsn, "SELECT current_database()") == "plain"
        with pytest.raises(EmbeddedError, match=r"can't create the database 'plain': .*exists"):
            await server.create_database("plain")
        with pytest.raises(EmbeddedError, match="can't create the database"):
            await server.create_database("nul\0byte")


async def test_settings_are_in_force() -> None:
    """Given settings win over ours; ``durable`` says whether the disk is waited for."""
    async with EmbeddedPostgres(settings={"max_connections": 17, "work_mem": "3MB"}) as server:
        assert await fetch(server.dsn, "SHOW max_connections") == "17"
        assert await fetch(server.dsn, "SHOW work_mem") == "3MB"
        assert await fetch(server.dsn, "SHOW fsync") == "on"
    async with EmbeddedPostgres(durable=False) as server:
        assert await fetch(server.dsn, "SHOW fsync") == "off"
    async with EmbeddedRedis(settings={"maxmemory": "9mb"}) as server:
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(9 * 1024 * 1024)
        await client.aclose()


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (EmbeddedPostgres(settings={"no_such_setting": 1}), "no_such_setting"),
        (EmbeddedRedis(settings={"no-such-directive": 1}), "no-such-directive"),
    ],
)
async def test_a_refused_setting_is_named(
    server: EmbeddedPostgres | EmbeddedRedis, words: str, tmp_path: Path
) -> None:
    """A server that won't start raises StartError with what it said, and leaves nothing."""
    with pytest.raises(StartError, match=words) as caught:
        await server.start()
    assert words in caught.value.log
    assert not server.running


async def test_strangers_are_kept_out() -> None:
    """Nobody else on the machine gets in: both servers want a password that is theirs alone, and
    the files that hold it are readable for us only."""
    async with EmbeddedPostgres() as postgres, EmbeddedRedis() as cache:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(f"postgresql://postgres:x@127.0.0.1:{postgres.port}/postgres", "SELECT 1")
        client = redis.asyncio.Redis(port=cache.port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            await client.ping()
        await client.aclose()
        secrets = [postgres.path / "password", cache.path / "password", cache.path / "valkey.conf"]
        assert [stat.S_IMODE(file.stat().st_mode) for file in secrets] == [0o600] * 3

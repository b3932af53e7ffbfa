# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Servers at a path that persists."""

import os
from pathlib import Path

import pytest
import redis.asyncio

from forktex_core.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedRedis,
    PathInUseError,
    StartError,
)
from tests.embedded.owners import owner, processes_of
from tests.embedded.test_lifecycle import SERVERS, Servers, answers, fetch


async def test_postgres_persists(tmp_path: Path) -> None:
    """Data written at a path is there at the next start, under the same password."""
    path = tmp_path / "deep" / "er" / "data"
    async with EmbeddedPostgres(path) as server:
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        password = server.dsn.split("@")[0]
    assert path.exists()
    async with EmbeddedPostgres(str(path)) as server:
        assert await fetch(server.dsn, "SELECT n FROM kept") == 7
        assert server.dsn.split("@")[0] == password


async def test_redis_persists(tmp_path: Path) -> None:
    """Keys written at a path are there at the next start."""
    for expected in (None, b"1"):
        async with EmbeddedRedis(tmp_path / "redis") as server:
            client = redis.asyncio.Redis.from_url(server.url)
            assert await client.get("kept") == expected
            await client.set("kept", 1)
            await client.aclose()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_path_in_use_is_refused(kind: Servers, tmp_path: Path) -> None:
    """A second server on a path is refused, naming path and process; the first goes on."""
    path = tmp_path / "shared"
    async with kind(path) as first:
        with pytest.raises(
            PathInUseError, match=f"shared is already served by process {os.getpid()}"
        ):
            await kind(path).start()
        assert await answers(first)
    with owner(f"{kind.__name__}({str(path)!r})") as (process, _):
        with pytest.raises(PathInUseError) as caught:
            await kind(path).start()
        assert caught.value.owner == process.pid
        assert caught.value.path == path
    async with kind(path) as server:
        assert await answers(server)


async def test_another_versions_data_is_refused(tmp_path: Path) -> None:
    """Data of another major version is refused with the way out; it is not touched."""
    async with EmbeddedPostgres(tmp_path / "old", version=16) as server:
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    with pytest.raises(StartError, match=r"made by PostgreSQL 16, this is 18: give version=16"):
        await EmbeddedPostgres(tmp_path / "old", version=18).start()
    async with EmbeddedPostgres(tmp_path / "old", version=16) as server:
        assert await fetch(server.dsn, "SELECT n FROM kept") == 7


async def test_an_interrupted_initialisation_is_begun_anew(tmp_path: Path) -> None:
    """What a crash during the first start left half-made is made again."""
    (tmp_path / "new" / "data.new" / "base").mkdir(parents=True)
    async with EmbeddedPostgres(tmp_path / "new") as server:
        assert await answers(server)
    assert not (tmp_path / "new" / "data.new").exists()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_path_that_can_not_be_is_named(kind: Servers, tmp_path: Path) -> None:
    """A file in the place of the folder is a clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"can't use .*file as a server's folder"):
        await kind(tmp_path / "file").start()


async def test_a_long_path_serves(tmp_path: Path) -> None:
    """A path too long for a Unix socket's address is served over TCP alone."""
    async with EmbeddedPostgres(tmp_path / ("long" * 30)) as server:
        assert await answers(server)
        assert await fetch(server.dsn, "SHOW unix_socket_directories") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
async def test_root_serves_a_path_that_is_closed_to_others(tmp_path: Path) -> None:
    """Below a folder that only root can pass (its home), the server of another user starts, crashes
    and recovers, and no folder's mode is loosened for it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "data") as server:
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        await fetch(server.dsn, "SELECT pg_reload_conf()")
        await server.kill()
        await server.start()
        assert await fetch(server.dsn, "SELECT n FROM kept") == 7
    assert [folder.stat().st_mode & 0o777 for folder in (closed, closed / "data")] == [0o700] * 2
    assert processes_of(closed) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
async def test_root_serves_as_nobody() -> None:
    """For root, PostgreSQL has none of root's rights, and what it can't need isn't its own."""
    async with EmbeddedPostgres() as server:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        owner_of = {name: (server.path / name).stat().st_uid for name in ("data", "log", ".")}
    assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    assert owner_of["data"] != 0
    assert owner_of["log"] == owner_of["."] == 0

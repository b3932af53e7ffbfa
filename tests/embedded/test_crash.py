# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Crashes of the server, of its owner and of the guard between them."""

import os
import signal
from pathlib import Path

import asyncpg
import pytest

from forktex_core.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedRedis
from tests.embedded.owners import owner, processes_of
from tests.embedded.test_lifecycle import SERVERS, Servers, answers, fetch
from tests.waiting import eventually


@pytest.mark.parametrize("server", ["EmbeddedPostgres()", "EmbeddedRedis()"])
async def test_killed_owner_leaves_nothing(server: str) -> None:
    """SIGKILL to the owner: no process and no folder is left."""
    with owner(server) as (process, folder):
        assert processes_of(folder) != []
        process.kill()
        await eventually(lambda: not folder.exists())
        await eventually(lambda: not processes_of(folder))


async def test_killed_owner_with_a_forked_child() -> None:
    """A child that the owner forked holds the pipe open; the owner's death is noticed anyway."""
    fork = "import os; os.fork() or sys.stdin.read(); sys.stdin.read()"
    with owner("EmbeddedRedis()", fork) as (process, folder):
        process.kill()
        await eventually(lambda: not folder.exists())


async def test_a_forked_child_does_not_close_its_parents_server() -> None:
    """Only the process that opened a server ends it: a forked child that exits leaves it alone."""
    child = "import os; os.waitpid(os.fork() or sys.exit(), 0); print(server.running, flush=True)"
    with owner("EmbeddedRedis()", f"{child}; sys.stdin.read()") as (process, folder):
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "True"
        assert folder.exists()


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "raise ValueError", "1 / 0"])
async def test_leaving_by_exception_leaves_nothing(end: str) -> None:
    """Whatever ends the owner, its server and folder go with it."""
    with owner("EmbeddedRedis()", end) as (process, folder):
        process.communicate()
    assert not folder.exists()
    assert processes_of(folder) == []


async def test_unclosed_at_exit_leaves_nothing() -> None:
    """An owner that exits without closing leaves nothing either."""
    with owner("EmbeddedPostgres()", "sys.stdout.flush(); import os; os._exit(0)") as (_, folder):
        await eventually(lambda: not folder.exists() and not processes_of(folder))


async def test_killed_owner_at_a_path(tmp_path: Path) -> None:
    """SIGKILL to the owner of a persistent server: the processes end, the data stays and is whole,
    and who comes at once waits for the old server's end."""
    path = tmp_path / "kept"
    async with EmbeddedPostgres(path) as server:
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    with owner(f"EmbeddedPostgres({str(path)!r})") as (process, _):
        process.kill()
        process.wait()
        async with EmbeddedPostgres(path) as server:
            assert await fetch(server.dsn, "SELECT n FROM kept") == 7
    assert processes_of(path) == []


@pytest.mark.parametrize("server", ["EmbeddedPostgres()", "EmbeddedRedis()"])
async def test_killed_guard_ends_the_server(server: str) -> None:
    """A server doesn't outlive its guard (the kernel sees to that), and the owner's next operation
    says what happened."""
    kind = EmbeddedPostgres() if "Postgres" in server else EmbeddedRedis()
    async with kind:
        folder = kind.path
        [guard] = [line for line in processes_of(folder) if "guard.py" in line]
        os.kill(int(guard.partition(":")[0]), signal.SIGKILL)
        await eventually(lambda: not processes_of(folder))
        with pytest.raises(EmbeddedError, match=r"guard process .* is gone"):
            await kind.stop()
    assert folder.exists()
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


async def test_terminated_guard_tidies_up() -> None:
    """SIGTERM to the guard, as at a machine's shutdown, ends the server in order."""
    async with EmbeddedRedis() as server:
        folder = server.path
        [guard] = [line for line in processes_of(folder) if "guard.py" in line]
        os.kill(int(guard.partition(":")[0]), signal.SIGTERM)
        await eventually(lambda: not folder.exists() and not processes_of(folder))


@pytest.mark.parametrize("kind", SERVERS)
async def test_kill_and_start(kind: Servers) -> None:
    """``kill`` ends the server and its children at once, ``start`` recovers on the same address."""
    async with kind() as server:
        url = server.url
        for _ in range(3):
            await server.kill()
            assert not server.running
            await eventually(lambda: all("guard.py" in line for line in processes_of(server.path)))
            await server.start()
            assert server.url == url
            assert await answers(server)


async def test_kill_loses_no_commit_and_keeps_no_open_transaction() -> None:
    """A crash keeps what was committed and drops what was not; its connections break."""
    async with EmbeddedPostgres() as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE t (n int)")
        await connection.execute("INSERT INTO t VALUES (1)")
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO t VALUES (2)")
        await server.kill()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.execute("COMMIT")
        connection.terminate()
        await server.start()
        assert await fetch(server.dsn, "SELECT sum(n) FROM t") == 1


async def test_a_crash_from_outside_is_seen_and_mended() -> None:
    """A server that died by itself is not ``running``; ``start`` brings it back."""
    async with EmbeddedPostgres() as server:
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: not server.running)
        await server.start()
        assert await answers(server)


async def test_killed_servers_leave_no_shared_memory() -> None:
    """``kill`` and ``close`` leave no segment of System V shared memory behind."""
    segments = Path("/proc/sysvipc/shm")
    async with EmbeddedPostgres() as server:
        key_and_id = (server.path / "data/postmaster.pid").read_text().splitlines()[6]
        shmid = key_and_id.split()[1]
        assert any(line.split()[1] == shmid for line in segments.read_text().splitlines())
        await server.kill()
    assert not any(line.split()[1] == shmid for line in segments.read_text().splitlines())


async def test_stale_lock_file_of_a_recycled_process(tmp_path: Path) -> None:
    """A lock file left by a crash doesn't stop a start when its process id is now another's."""
    path = tmp_path / "kept"
    async with EmbeddedPostgres(path) as server, EmbeddedPostgres() as stranger:
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        await server.kill()
        lock = path / "data" / "postmaster.pid"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        await server.start()
        assert await fetch(server.dsn, "SELECT n FROM kept") == 7
        assert await answers(stranger)

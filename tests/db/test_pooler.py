# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The engine behind a real PgBouncer in transaction mode."""

import asyncio
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from forktex_core.db import close_engine, get_session, init_engine
from tests.conftest import Database as Server
from tests.conftest import execute
from tests.waiting import eventually

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
MISSING = "no pgbouncer on this machine: install it (apt install pgbouncer, brew install pgbouncer)"
SERVERS = 3  # connections of the pooler to the server: clients have to share them


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(folder: Path, port: int, url: str) -> Path:
    """A configuration file; it lets every client in, and knows the server's password."""
    target = make_url(url)
    user, password = target.username or "postgres", target.password or ""
    host = target.host or target.query.get("host", "127.0.0.1")
    path = folder / "pgbouncer.ini"
    path.write_text(
        f"[databases]\n{target.database} = host={host} port={target.port or 5432} "
        f"user={user} password={password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\n"
        f"default_pool_size = {SERVERS}\nmax_client_conn = 200\nserver_round_robin = 1\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    return path


def command(config: Path) -> list[str]:
    """PgBouncer refuses to run as root: there it becomes `nobody`, who may read the folder."""
    if os.geteuid() != 0:
        return [str(PGBOUNCER), str(config)]
    nobody = pwd.getpwnam("nobody")
    for path in (config.parent, *config.parent.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return [str(PGBOUNCER), "-u", "nobody", str(config)]


@pytest.fixture
async def pooler(database: Server) -> AsyncIterator[str]:
    """The URL of the test's database through PgBouncer."""
    if PGBOUNCER is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgb"))  # not tmp_path: `nobody` cannot enter that
    config = configuration(folder, port, database.url)
    process = await asyncio.create_subprocess_exec(
        *command(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    target = make_url(database.url)
    url = target.set(host="127.0.0.1", port=port, query={})
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def answers() -> bool:
        assert process.returncode is None, "pgbouncer ended; run it by hand to see why"
        with suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(dsn, statement_cache_size=0)).close()
            return True
        return False

    try:
        await eventually(answers)
        yield url.render_as_string(hide_password=False)
    finally:
        await close_engine()
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


async def transaction(number: int) -> bool:
    """Two parameterised statements, told apart by their text as a service's would be."""
    async with get_session() as session:
        await session.execute(text("INSERT INTO done VALUES (:number)"), {"number": number})
        found = await session.scalar(
            text(f"SELECT number + {number % 5} FROM done WHERE number = :number"),
            {"number": number},
        )
        return bool(found == number + number % 5)


async def run_many() -> list[bool | BaseException]:
    return await asyncio.gather(*map(transaction, range(180)), return_exceptions=True)


async def test_no_transaction_fails_behind_a_transaction_pooler(
    pooler: str, database: Server
) -> None:
    """With pooled=True, 180 transactions of 30 clients share 3 server connections, all well."""
    await execute(database, "CREATE TABLE done (number integer)")
    init_engine(pooler, pooled=True, pool_size=30, max_overflow=0, pool_timeout=60)
    assert await run_many() == [True] * 180


async def test_without_the_switch_transactions_fail(pooler: str, database: Server) -> None:
    """What the switch is for: prepared statements of others' connections break transactions."""
    await execute(database, "CREATE TABLE done (number integer)")
    init_engine(pooler, statement_timeout=None, pool_size=30, max_overflow=0, pool_timeout=60)
    results = await run_many()
    assert any(isinstance(result, DBAPIError) for result in results)


async def test_the_statement_timeout_holds_behind_the_pooler(pooler: str) -> None:
    """It is made for each transaction, so it reaches whichever server connection serves it."""
    init_engine(pooler, pooled=True, statement_timeout=0.2)
    with pytest.raises(DBAPIError, match="statement timeout"):
        async with get_session() as session:
            await session.execute(text("SELECT pg_sleep(30)"))


async def test_no_setting_stays_behind_on_the_poolers_connections(pooler: str) -> None:
    """Another client of the pooler never meets our timeout."""
    init_engine(pooler, pooled=True, statement_timeout=0.2)
    init_engine(pooler, name="other", pooled=True, statement_timeout=None)
    async with get_session() as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "200ms"
    for _ in range(SERVERS):
        async with get_session("other") as session:
            assert await session.scalar(text("SHOW statement_timeout")) == "0"
    await close_engine()

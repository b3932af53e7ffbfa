# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a step asks of Postgres: statements and WAL bytes, under load; and what idle workers ask.

Under load, statements are counted as transactions of the server (``pg_stat_database``): every
statement of flow is one. Those of idle workers are counted in the server's log, by who sent them
(Linux).
"""

import asyncio
import re
from pathlib import Path

import asyncpg

from benchmarks.flow.history import parent
from benchmarks.flow.many import AT_A_TIME, RUNS, STEPS, many
from benchmarks.flow.setting import build, served, verdict, workers
from forktex_core.embedded import EmbeddedPostgres

COUNT = """
SELECT (SELECT xact_commit + xact_rollback FROM pg_stat_database
        WHERE datname = current_database()),
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""
SECONDS, ROUNDS = 20.0, 5
SENT = re.compile(r"forktex-flow[^|]*\|LOG:  (execute|statement)")


async def counted(connection: asyncpg.Connection) -> tuple[float, float]:
    """Return transactions and WAL bytes since the server began."""
    await asyncio.sleep(1.2)  # backends report their counts a second late
    transactions, wal = await connection.fetchrow(COUNT)
    return float(transactions), float(wal)


async def busy(dsn: str, connection: asyncpg.Connection) -> None:
    """Print statements and WAL bytes per step."""
    async with build(dsn) as flow, served(flow, concurrency=AT_A_TIME, lead=False):
        await many(flow)
        await connection.execute("CHECKPOINT")
        await many(flow)
        statements, wal = await counted(connection)
        for _ in range(ROUNDS):
            await many(flow)
        after, wal_after = await counted(connection)
    steps = ROUNDS * RUNS * STEPS
    per_step = (after - statements) / steps
    verdict("statements a step", per_step, "at most 0.05", met=per_step <= 0.05)
    size = (wal_after - wal) / steps
    verdict("WAL bytes a step", size, "at most 400", met=size <= 400)


def log_of(server: int) -> Path:
    """Return where a server's process writes its log."""
    return Path(f"/proc/{server}/fd/2").resolve()


def lines_of(log: Path) -> list[str]:
    """Return what was logged."""
    return log.read_bytes().decode(errors="replace").splitlines()


async def logging(connection: asyncpg.Connection) -> Path:
    """Let the server log every statement with the name of who sent it; return the log."""
    for setting in ("log_statement = 'all'", "log_line_prefix = '%a|'"):
        await connection.execute(f"ALTER SYSTEM SET {setting}")
    await connection.execute("SELECT pg_reload_conf()")
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    return log_of(parent(backend))


async def idle(dsn: str, log: Path, count: int) -> None:
    """Print the statements a second of idle workers, the leader's chores included."""
    async with workers(dsn, count):
        await asyncio.sleep(3)
        before = len(lines_of(log))
        await asyncio.sleep(SECONDS)
        lines = lines_of(log)[before:]
    sent = [line for line in lines if SENT.match(line)]
    what = f"statements a second of {count} idle worker(s), one of which leads"
    rate = len(sent) / SECONDS
    verdict(what, rate, f"at most {count}: one each", met=rate <= 1.05 * count)


async def measure(dsn: str) -> None:
    """Print all."""
    connection = await asyncpg.connect(dsn)
    await busy(dsn, connection)
    log = await logging(connection)
    for count in (1, 10):
        await idle(dsn, log, count)
    await connection.close()


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

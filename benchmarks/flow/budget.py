# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a step asks of Postgres: statements and WAL bytes, under load; and what idle workers ask.

Statements are counted as transactions of the server (``pg_stat_database``): every statement of flow
is one. What a quiet server does meanwhile (autovacuum) is measured first and taken off.
"""

import asyncio

import asyncpg

from benchmarks.flow.many import AT_A_TIME, RUNS, STEPS, many
from benchmarks.flow.setting import build, served, verdict, workers
from forktex_core.embedded import EmbeddedPostgres

COUNT = """
SELECT (SELECT xact_commit + xact_rollback FROM pg_stat_database
        WHERE datname = current_database()),
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""
SECONDS, ROUNDS = 10.0, 5


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


async def idle(dsn: str, connection: asyncpg.Connection, count: int) -> None:
    """Print the statements a second of idle workers, the leader's chores apart."""
    quiet, _ = await counted(connection)
    await asyncio.sleep(SECONDS / 2)
    base = ((await counted(connection))[0] - quiet) / (SECONDS / 2 + 1.2)
    async with workers(dsn, count):
        await asyncio.sleep(3)
        before, _ = await counted(connection)
        await asyncio.sleep(SECONDS)
        rate = ((await counted(connection))[0] - before) / (SECONDS + 1.2) - base
    limit = count + 2
    what = f"statements a second of {count} idle worker(s), one of which leads"
    verdict(what, rate, f"at most {limit}: one each, and two for the leader", met=rate <= limit)


async def measure(dsn: str) -> None:
    """Print all."""
    connection = await asyncpg.connect(dsn)
    await busy(dsn, connection)
    for count in (1, 10):
        await idle(dsn, connection, count)
    await connection.close()


if __name__ == "__main__":
    with EmbeddedPostgres() as server:
        asyncio.run(measure(server.dsn))

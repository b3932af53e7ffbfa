# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How soon an idle worker in another process acts: from ``start`` to the first step, and from a
signal to the step after it, beside a raw wake-up (a NOTIFY, a LISTEN in another process, one claim
by UPDATE ... SKIP LOCKED). All take turns. Clocks are the machine's own.
"""

import asyncio
import os
import sys
import time

import asyncpg

from benchmarks.flow.setting import SCHEMA, build, median_p99, verdict, workers
from forktex_core.embedded import EmbeddedPostgres

ROUNDS = 300
TABLE = "CREATE TABLE raw_job (id integer PRIMARY KEY, status text NOT NULL, claimed_at float8)"
CLAIM = """
UPDATE raw_job SET status = 'running' WHERE id = (
    SELECT id FROM raw_job WHERE status = 'due' LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id
"""


async def raw_claimant(dsn: str) -> None:
    """Claim whatever a notification tells of, and say when."""
    connection = await asyncpg.connect(dsn)
    heard = asyncio.Event()
    listener = await asyncpg.connect(dsn)
    await listener.add_listener("raw_job", lambda *_: heard.set())
    claim = await connection.prepare(CLAIM)
    await connection.execute("INSERT INTO raw_job VALUES (0, 'ready')")
    while True:
        await heard.wait()
        heard.clear()
        if (job := await claim.fetchval()) is not None:
            await connection.execute(
                "UPDATE raw_job SET claimed_at = $2 WHERE id = $1", job, time.time()
            )


async def raw(connection: asyncpg.Connection, number: int) -> float:
    """Return the seconds from the sending of a wake-up to the claim."""
    await connection.execute("INSERT INTO raw_job VALUES ($1, 'due')", number)
    began = time.time()
    await connection.execute("SELECT pg_notify('raw_job', '')")
    read = "SELECT claimed_at FROM raw_job WHERE id = $1"
    while (claimed := await connection.fetchval(read, number)) is None:
        await asyncio.sleep(0.005)
    return float(claimed) - began


async def measure(dsn: str) -> None:
    """Take turns, print."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLE)
    claimant = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.flow.latency", dsn, env=dict(os.environ)
    )
    while not await connection.fetchval("SELECT count(*) FROM raw_job"):
        await asyncio.sleep(0.05)
    floor, starts, signals = [], [], []
    waiting = f"SELECT status = 'waiting' FROM {SCHEMA}.run WHERE id = $1"
    async with build(dsn) as flow, workers(dsn):
        await flow.run("clock")
        for number in range(1, ROUNDS + 1):
            floor.append(await raw(connection, number))
            began = time.time()
            starts.append(await flow.run("clock") - began)
            run = await flow.start("parked")
            while not await connection.fetchval(waiting, run):
                await asyncio.sleep(0.005)
            began = time.time()
            await flow.send_signal(run, "go")
            signals.append(await flow.result(run) - began)
    claimant.terminate()
    await claimant.wait()
    await connection.close()
    (a, b), (c, d), (e, f) = (
        tuple(1e3 * v for v in median_p99(t)) for t in (floor, starts, signals)
    )
    print(f"  raw wake-up and claim: {a:.2f} ms, p99 {b:.2f}")
    verdict("start to first step, median ms", c, "at most 3", met=c <= 3)
    verdict("start to first step, p99 ms", d, "at most 10", met=d <= 10)
    print(f"  signal to the step after it: {e:.2f} ms, p99 {f:.2f}")
    verdict("signal / raw, median", e / a, "at most 1.3", met=e / a <= 1.3)
    verdict("signal / raw, p99", f / b, "at most 1.5", met=f / b <= 1.5)


if __name__ == "__main__":
    if len(sys.argv) > 1 and "//" in sys.argv[1]:
        asyncio.run(raw_claimant(sys.argv[1]))
    else:
        with EmbeddedPostgres() as server:
            asyncio.run(measure(server.dsn))

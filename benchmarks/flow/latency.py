# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How soon an idle worker in another process acts: from ``start`` to the first step, and from a
signal to the body's going on (the start of the step after the wait), beside a raw wake-up (a
NOTIFY, a LISTEN in another process, one claim by UPDATE ... SKIP LOCKED).

A signal is measured like the raw wake-up, from when it is stored; and from the call of
``send_signal``, beside the raw way from its INSERT on. All take turns, nobody waits for the result
meanwhile (that would ask the database at the same moment). Clocks are the machine's own.
"""

import asyncio
import os
import sys
import time

import asyncpg

from benchmarks.flow.setting import SCHEMA, build, median_p99, verdict, workers
from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow

ROUNDS, WARM_UP, PAUSE = 300, 10, 0.02
WAITING = f"SELECT status = 'waiting' FROM {SCHEMA}.run WHERE id = $1"
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


async def raw(connection: asyncpg.Connection, number: int) -> tuple[float, float]:
    """Return the seconds from an INSERT, and from the sending of the wake-up, to the claim."""
    called = time.time()
    await connection.execute("INSERT INTO raw_job VALUES ($1, 'due')", number)
    began = time.time()
    await connection.execute("SELECT pg_notify('raw_job', '')")
    await asyncio.sleep(PAUSE)
    read = "SELECT claimed_at FROM raw_job WHERE id = $1"
    while (claimed := await connection.fetchval(read, number)) is None:
        await asyncio.sleep(PAUSE)
    return float(claimed) - called, float(claimed) - began


async def started(flow: Flow) -> float:
    """Return the seconds from a start to the first step."""
    called = time.time()
    run = await flow.start("clock")
    await asyncio.sleep(PAUSE)
    return float(await flow.result(run)) - called


async def signalled(flow: Flow, connection: asyncpg.Connection) -> tuple[float, float]:
    """Return the seconds from a call of send_signal, and from its return, to the next step."""
    run = await flow.start("parked")
    while not await connection.fetchval(WAITING, run):
        await asyncio.sleep(PAUSE)
    await asyncio.sleep(PAUSE)
    called = time.time()
    await flow.send_signal(run, "go")
    began = time.time()
    await asyncio.sleep(PAUSE)
    went_on = float(await flow.result(run))
    return went_on - called, went_on - began


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
    async with build(dsn) as flow, workers(dsn):
        for _ in range(WARM_UP):  # each connection of the pool has seen each statement
            await asyncio.gather(*(flow.run("clock") for _ in range(5)))
            await signalled(flow, connection)
        for number in range(1, ROUNDS + 1):
            floor.append(await raw(connection, number))
            starts.append(await started(flow))
            signals.append(await signalled(flow, connection))
    claimant.terminate()
    await claimant.wait()
    await connection.close()
    c, d = (1e3 * v for v in median_p99(starts))
    verdict("start to first step, median ms", c, "at most 3", met=c <= 3)
    verdict("start to first step, p99 ms", d, "at most 10", met=d <= 10)
    for place, what in ((1, "signal stored"), (0, "send_signal called")):
        a, b = (1e3 * v for v in median_p99([times[place] for times in floor]))
        e, f = (1e3 * v for v in median_p99([times[place] for times in signals]))
        print(f"  {what}: {e:.2f} ms, p99 {f:.2f}; raw {a:.2f} ms, p99 {b:.2f}")
        verdict(f"{what}, to the wake-up / raw, median", e / a, "at most 1.3", met=e / a <= 1.3)
        verdict(f"{what}, to the wake-up / raw, p99", f / b, "at most 1.5", met=f / b <= 1.5)


if __name__ == "__main__":
    if len(sys.argv) > 1 and "//" in sys.argv[1]:
        asyncio.run(raw_claimant(sys.argv[1]))
    else:
        with EmbeddedPostgres() as server:
            asyncio.run(measure(server.dsn))

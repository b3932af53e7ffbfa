# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Everything dies at random under load: workers, the leader among them, and Postgres itself."""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import Flow
from tests.crash.programs import LEDGER, PROGRAMS, Effects, register
from tests.crash.test_every_statement import begin, violations
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
RUNS, SECONDS, WORKERS = 5_000, 60, 3
# By the keys that effects have, which name the generation.
ATTEMPTS = """
SELECT j.run_id || ' ' || CASE r.generation WHEN 0 THEN '' ELSE 'g' || r.generation || ':' END
    || j.key, j.attempt
FROM journal j JOIN run r ON r.id = j.run_id
"""


class Crew:
    """Worker processes; whoever is killed is replaced."""

    def __init__(self, dsn: str, folder: Path, rng: random.Random) -> None:
        self._dsn, self._folder, self._rng = dsn, folder, rng
        self._members: list[asyncio.subprocess.Process] = []
        self._hired = 0
        self.killed = 0

    async def hire(self) -> None:
        """Start one more worker, with a log of its own."""
        self._hired += 1
        self._members.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.crash.chaos_worker", self._dsn,
                str(self._folder / f"{self._hired}.log"), cwd=ROOT,
                stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
        )  # fmt: skip

    async def kill_one(self) -> None:
        """Kill any worker and hire another."""
        victim = self._members.pop(self._rng.randrange(len(self._members)))
        victim.kill()
        await victim.wait()
        self.killed += 1
        await self.hire()

    async def dismiss(self) -> None:
        """Kill all."""
        for member in self._members:
            member.kill()
            await member.wait()


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_everything_dies_at_random(tmp_path: Path) -> None:
    """5,000 runs of every program while workers, the leader and Postgres are killed at random for a
    minute: every run reaches its right result, and the invariants hold.
    """
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    async with EmbeddedPostgres() as server, Flow(server.dsn) as client:
        register(client, Effects())
        await lay_out_ledger(server.dsn)
        crew = Crew(server.dsn, tmp_path, rng)
        try:
            for _ in range(WORKERS):
                await crew.hire()
            runs = await start_all(client, rng)
            postgres_deaths = await havoc(server, crew, rng)
            await check_results(client, runs)
        finally:
            await crew.dismiss()
        await check_journal(server, tmp_path)
    print(f"{crew.killed} workers killed, Postgres {postgres_deaths} times")
    assert crew.killed >= 10
    assert postgres_deaths >= 3


async def lay_out_ledger(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(LEDGER.replace("{schema}", "forktex_flow"))
    await connection.close()


async def start_all(client: Flow, rng: random.Random) -> dict[UUID, str]:
    """Start the runs, mixed."""
    names = [rng.choice(list(PROGRAMS)) for _ in range(RUNS)]
    runs = {}
    for start in range(0, RUNS, 50):
        chunk = names[start : start + 50]
        ids = await asyncio.gather(*(begin(client, PROGRAMS[name]) for name in chunk))
        runs.update(zip(ids, chunk, strict=True))
    return runs


async def havoc(server: EmbeddedPostgres, crew: Crew, rng: random.Random) -> int:
    """Kill for a minute; return how often Postgres died."""
    until, next_fall, falls = time.monotonic() + SECONDS, time.monotonic() + 8, 0
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.5, 3))
        await crew.kill_one()
        if time.monotonic() > next_fall:
            await server.kill()
            await server.start()
            falls += 1
            next_fall = time.monotonic() + rng.uniform(6, 14)
    return falls


async def check_results(client: Flow, runs: dict[UUID, str]) -> None:
    """Every run has the result of its program."""

    async def one(run_id: UUID, name: str) -> None:
        assert await client.result(run_id, timeout=240) == PROGRAMS[name].result, (run_id, name)

    await asyncio.gather(*(one(run_id, name) for run_id, name in runs.items()))


async def check_journal(server: EmbeddedPostgres, folder: Path) -> None:
    """No invariant is broken, and no step ran again but those that a death interrupted: at most as
    often as its run was handed on.
    """
    sql = await asyncpg.connect(server.dsn, server_settings={"search_path": "forktex_flow"})
    try:
        assert await violations(sql, "forktex_flow") == []
        claims = dict(await sql.fetch("SELECT id::text, claim FROM run"))
        attempts = dict(await sql.fetch(ATTEMPTS))
    finally:
        await sql.close()
    effects = Counter(e for log in folder.glob("*.log") for e in Effects(log).all())
    too_often = [
        (run, key, n)
        for (run, key), n in effects.items()
        if n > attempts.get(f"{run} {key}", 1) + claims[run] - 1  # 1: of a former generation
    ]
    assert too_often == []
    assert await eventually(lambda: bool(effects))

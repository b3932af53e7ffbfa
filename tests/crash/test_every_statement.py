# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker dies before and after every statement that it sends, and another one goes on.

What is checked after each death: the run reaches the right result, no step whose result was
committed before the death runs again, and tests/crash/invariants.sql finds nothing.
"""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from forktex_core.flow import Flow
from forktex_core.flow.store.sql import quote_identifier
from tests.crash.points import MortalFlow, Point
from tests.crash.programs import LEDGER, PROGRAMS, Effects, Program, register
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
INVARIANTS = (Path(__file__).parent / "invariants.sql").read_text()
# Asked by the clock and not by the work: the first few stand for all of them.
BY_THE_CLOCK = {"tick": 2, "do_chores": 2, "notify": 2, "other": 1, "outcomes": 0}


async def violations(sql: asyncpg.Connection, schema: str) -> list[tuple[str, str]]:
    """Return what invariants.sql finds."""
    rows = await sql.fetch(INVARIANTS.replace("{schema}", quote_identifier(schema)))
    return [tuple(row) for row in rows]


async def begin(flow: Flow, program: Program) -> UUID:
    """Start a program, its signals sent beforehand."""
    run_id = await flow.start(program.workflow, program.input)
    for name, payload in program.signals:
        await flow.send_signal(run_id, name, payload)
    return run_id


@asynccontextmanager
async def worker(flow: Flow, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker of an open Flow."""
    task = asyncio.create_task(flow.run_worker(**settings))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def committed_steps(sql: asyncpg.Connection, run_id: UUID) -> set[str]:
    """Return the keys of the steps, as effects have them, whose outcome stands in the journal."""
    rows = await sql.fetch(
        "SELECT j.key, r.generation FROM journal j JOIN run r ON r.id = j.run_id"
        " WHERE r.id = $1 AND j.kind = 'step'",
        run_id,
    )
    return {f"g{r['generation']}:{r['key']}" if r["generation"] else r["key"] for r in rows}


class Stage:
    """One database schema on which a program is crashed again and again."""

    def __init__(self, dsn: str, schema: str, sql: asyncpg.Connection) -> None:
        self.dsn, self.schema, self.sql = dsn, schema, sql

    async def points(self, program: Program) -> list[Point]:
        """Return every point that an undisturbed worker passes."""
        flow = MortalFlow(self.dsn, schema=self.schema)
        register(flow, Effects())
        async with Flow(self.dsn, schema=self.schema) as client, flow:
            run_id = await begin_for(client, program)
            fate = flow.doom(None)
            async with worker(flow):
                assert await client.result(run_id, timeout=20) == program.result
        return [
            Point(name, number, after)
            for name, count in sorted(fate.seen.items())
            for number in range(1, min(count, BY_THE_CLOCK.get(name, count)) + 1)
            for after in (False, True)
        ]

    async def die_at(self, point: Point, program: Program) -> bool:
        """Let a worker die at a point while it runs a program, and another one finish it; say
        whether it came to the point.
        """
        flow = MortalFlow(self.dsn, schema=self.schema)
        effects = Effects()
        register(flow, effects)
        async with Flow(self.dsn, schema=self.schema) as client:
            run_id = await begin(client, program)
            with suppress(Exception):  # the dead have nothing to say
                async with flow:
                    fate = flow.doom(point)
                    effects.alive = lambda: fate.alive
                    async with worker(flow) as task:
                        await eventually(
                            lambda: task.done() or fate.struck.is_set() or self._ended(run_id)
                        )
            await self._go_on(client, run_id, program, point)
        return fate.struck.is_set()

    async def _ended(self, run_id: UUID) -> bool:
        return await self.sql.fetchval(
            "SELECT finished_at IS NOT NULL FROM run WHERE id = $1", run_id
        )  # type: ignore[no-any-return]

    async def _go_on(self, client: Flow, run_id: UUID, program: Program, point: Point) -> None:
        await self._bury()
        committed = await committed_steps(self.sql, run_id)
        after = Effects()
        rescuer = Flow(self.dsn, schema=self.schema)
        register(rescuer, after)
        async with rescuer, worker(rescuer):
            assert await client.result(run_id, timeout=20) == program.result, point
        again = [key for run, key in after.all() if run == str(run_id) and key in committed]
        assert again == [], f"{point}: steps that were committed ran again"
        assert await violations(self.sql, self.schema) == [], point

    async def _bury(self) -> None:
        """Hand on what the dead held, as a leader does a second later."""
        call = f"SELECT {quote_identifier(self.schema)}.end_worker(id, 'test') FROM worker"
        await self.sql.execute(f"{call} WHERE ended_at IS NULL")


@pytest.fixture
async def stage(postgres, schema: str, sql: asyncpg.Connection) -> Stage:
    """A stage on a schema of its own, migrated."""
    async with Flow(postgres.url, schema=schema):
        await sql.execute(LEDGER.replace("{schema}", quote_identifier(schema)))
        return Stage(postgres.url, schema, sql)


async def crash_at(stage: Stage, program: Program, points: list[Point]) -> None:
    """Die at each point; those that the work itself leads to must be come to, most of the time."""
    missed = [point for point in points if not await stage.die_at(point, program)]
    missed = [point for point in missed if point.query not in BY_THE_CLOCK]
    assert len(missed) * 3 <= len(points), f"never came to {missed}"


@pytest.mark.parametrize("name", PROGRAMS)
async def test_death_at_some_statements(stage: Stage, name: str) -> None:
    """Three points of each program, drawn by chance; the seed is in the message."""
    seed = random.randrange(1 << 32)
    program = PROGRAMS[name]
    points = await stage.points(program)
    assert {p.query for p in points} >= {"register_worker", "claim_runs", "finish_runs"}
    print("seed", seed)
    await crash_at(stage, program, random.Random(seed).sample(points, 3))


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PROGRAMS)
async def test_death_at_every_statement(stage: Stage, name: str) -> None:
    """Every point of each program."""
    points = await stage.points(PROGRAMS[name])
    await crash_at(stage, PROGRAMS[name], points)
    print(f"{name}: {len(points)} points")


async def killed_at(stage: Stage, program: Program, name: str, point: Point, log: Path) -> None:
    """The same with a real process and SIGKILL."""
    log.unlink(missing_ok=True)
    async with Flow(stage.dsn, schema=stage.schema) as client:
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.victim", stage.dsn, stage.schema, str(log),
            str(point), cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        try:
            run_id = await begin_for(client, program)
            await eventually(
                lambda: victim.returncode is not None or stage._ended(run_id), timeout=30
            )
        finally:
            if victim.returncode is None:
                victim.kill()
            await victim.wait()
        await stage._go_on(client, run_id, program, point)


async def begin_for(client: Flow, program: Program) -> UUID:
    register(client, Effects())
    return await begin(client, program)


async def test_sigkill_at_some_statements(stage: Stage, tmp_path: Path) -> None:
    """A real worker kills itself at four points of a program, drawn by chance."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    name = rng.choice(list(PROGRAMS))
    print("seed", seed, name)
    for point in rng.sample(await stage.points(PROGRAMS[name]), 4):
        await killed_at(stage, PROGRAMS[name], name, point, tmp_path / "log")


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PROGRAMS)
async def test_sigkill_at_every_statement(stage: Stage, name: str, tmp_path: Path) -> None:
    """A real worker kills itself at every point of each program."""
    points = await stage.points(PROGRAMS[name])
    for point in points:
        await killed_at(stage, PROGRAMS[name], name, point, tmp_path / "log")
    print(f"{name}: {len(points)} points")

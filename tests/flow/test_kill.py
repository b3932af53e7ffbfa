# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Death of real worker processes."""

import asyncio
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.flow.programs import STEPS, build
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
type Spawn = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def spawn(postgres, schema: str, tmp_path: Path) -> AsyncIterator[Spawn]:
    """Start worker processes; whatever still runs is killed at the end."""
    processes: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.flow.programs", postgres.dsn, schema,
            str(tmp_path / "log"), cwd=ROOT,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


def effects(log: Path) -> dict[str, list[int]]:
    """Return the steps that each run was seen to execute, in order."""
    seen = defaultdict(list)
    for line in log.read_text().splitlines():
        run_id, number, _ = line.split()
        seen[run_id].append(int(number))
    return seen


async def test_random_sigkill_of_workers(
    postgres, schema: str, sql, spawn: Spawn, tmp_path: Path
) -> None:
    """100 runs of 20 steps while workers are killed at random: all complete, no committed step
    repeats, and each takeover repeats at most the one step that was in flight.
    """
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    async with build(postgres.dsn, schema, tmp_path / "log") as flow:
        ids = await flow.start_many("chain", [STEPS] * 100)
        workers = [await spawn(), await spawn()]
        kills = 0
        waiting = asyncio.gather(*(flow.result(i, timeout=100) for i in ids))
        log = tmp_path / "log"
        log.touch()
        while kills < 6 and not waiting.done():
            lines = len(log.read_text().splitlines())
            goal = lines + rng.randrange(20, 250)
            await eventually(
                lambda goal=goal: waiting.done() or len(log.read_text().splitlines()) >= goal,
                timeout=30,
            )
            victim = workers.pop(rng.randrange(2))
            victim.kill()
            kills += 1
            workers.append(await spawn())
        assert await waiting == [sum(range(STEPS))] * 100, f"seed {seed}"
    seen = effects(log)
    takeovers = 0
    for row in await sql.fetch(
        "SELECT id, claim, (SELECT count(*) FROM journal j WHERE j.run_id = r.id) AS n FROM run r"
    ):
        steps = seen[str(row["id"])]
        assert row["n"] == STEPS
        assert steps == sorted(steps), f"a committed step ran again (seed {seed}): {steps}"
        assert len(steps) <= STEPS + row["claim"] - 1, f"seed {seed}"
        takeovers += row["claim"] - 1
    assert kills >= 1
    assert takeovers >= 1, "no worker died with a run in hand: the test saw nothing"


async def test_takeover_is_quick_also_of_the_leader(
    postgres, schema: str, sql, spawn: Spawn, tmp_path: Path
) -> None:
    """The runs of a killed worker that also led go on elsewhere, long before its lease ends."""
    async with build(postgres.dsn, schema, tmp_path / "log") as flow:
        first = await spawn()
        await eventually(
            lambda: sql.fetchval("SELECT term = 1 FROM leader WHERE worker_id IS NOT NULL")
        )
        ids = await flow.start_many("chain", [500] * 3)
        await eventually((tmp_path / "log").exists)
        await spawn()
        await eventually(lambda: sql.fetchval("SELECT count(*) = 2 FROM worker"))
        first.kill()
        killed = time.monotonic()
        await eventually(lambda: sql.fetchval("SELECT count(*) = 3 FROM run WHERE claim = 2"))
        took = time.monotonic() - killed
        assert (
            await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
            == [sum(range(500))] * 3
        )
    assert took < 10, "taken over only by the lease"
    assert await sql.fetchval("SELECT term FROM leader") >= 2


async def test_frozen_worker_writes_nothing_after_it_was_given_up(
    postgres, schema: str, sql, spawn: Spawn, tmp_path: Path
) -> None:
    """A worker that is stopped (SIGSTOP), given up and thawed finds its writes refused and begins a
    new life.
    """
    async with build(postgres.dsn, schema, tmp_path / "log") as flow:
        frozen = await spawn()
        ids = await flow.start_many("chain", [300] * 5)
        await eventually((tmp_path / "log").exists)
        frozen.send_signal(signal.SIGSTOP)
        life = await sql.fetchval("SELECT id FROM worker")
        await sql.fetchval(
            "SELECT end_worker($1, 'test')".replace("end_worker", f'"{schema}".end_worker'), life
        )
        await spawn()
        await eventually(lambda: sql.fetchval("SELECT count(*) = 5 FROM run WHERE claim = 2"))
        frozen.send_signal(signal.SIGCONT)
        assert (
            await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
            == [sum(range(300))] * 5
        )
        late = await sql.fetchval(
            "SELECT count(*) FROM journal j JOIN worker w ON w.id = j.worker_id"
            " WHERE w.id = $1 AND j.seq > (SELECT min(l.seq) FROM journal l"
            " WHERE l.run_id = j.run_id AND l.worker_id <> $1)",
            life,
        )
        await eventually(lambda: sql.fetchval("SELECT count(*) = 3 FROM worker"))
    assert late == 0
    for run_id in ids:
        assert await sql.fetchval("SELECT count(*) = 300 FROM journal WHERE run_id = $1", run_id)


async def test_sigterm_gives_runs_back(
    postgres, schema: str, sql, spawn: Spawn, tmp_path: Path
) -> None:
    """On SIGTERM a worker records what runs, gives its runs back and exits with 0."""
    async with build(postgres.dsn, schema, tmp_path / "log") as flow:
        worker = await spawn()
        ids = await flow.start_many("chain", [200] * 10)
        await eventually((tmp_path / "log").exists)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 10) == 0
        row = await sql.fetchrow("SELECT ended_at IS NOT NULL AS ended, end_reason FROM worker")
        assert tuple(row) == (True, "stopped")
        assert await sql.fetchval("SELECT count(*) FROM run WHERE status = 'running'") == 0
        before = {k: len(v) for k, v in effects(tmp_path / "log").items()}
        recorded = dict(await sql.fetch("SELECT run_id::text, count(*) FROM journal GROUP BY 1"))
        assert before == recorded, "a step that ran was not recorded"
        await spawn()
        await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
    assert all(steps == list(range(200)) for steps in effects(tmp_path / "log").values())


async def test_second_sigterm_stops_at_once(
    postgres, schema: str, sql, spawn: Spawn, tmp_path: Path
) -> None:
    """A step that won't end holds a stop up for the drain time, a second SIGTERM for no time."""
    async with build(postgres.dsn, schema, tmp_path / "log") as flow:
        worker = await spawn()
        await flow.start("stuck")
        await eventually((tmp_path / "log").exists)
        worker.send_signal(signal.SIGTERM)
        await eventually(lambda: sql.fetchval("SELECT worker_id IS NULL FROM leader"))
        assert worker.returncode is None
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 10) == 0
        assert time.monotonic() - began < 4, "the drain time of 5 s was waited out"
        assert await sql.fetchval("SELECT status FROM run") == "pending"

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The cost budget of the protocol: statements on the wire, counted by name, never timed."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.store.connection import Link, Pool
from forktex_core.flow.store.sql import queries
from forktex_core.flow.store.store import journal_line
from tests.waiting import eventually

RUNS, STEPS = 40, 6
# What a worker and the leader ask by the clock, and wake-ups, which are counted apart.
BESIDES = {"tick", "do_chores", "notify", "register_worker", "register_definitions"}


@pytest.fixture
def sent(schema: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Counter[str]]]:
    """Count every statement of every Flow in this process; ask for the counts by query name."""
    names = {sql: name for name, sql in queries(schema).items()}
    found: Counter[str] = Counter()

    def counting(fetch):
        async def counted(self, sql: str, *args: object) -> list:
            found[names.get(sql, sql)] += 1
            return await fetch(self, sql, *args)

        return counted

    for kind in (Link, Pool):
        monkeypatch.setattr(kind, "fetch", counting(kind.fetch))
    return lambda: Counter({name: n for name, n in found.items() if name not in BESIDES})


def register(flow: Flow) -> list[int]:
    """Register a chain of steps; return the list in which each leaves its number."""
    ran: list[int] = []

    @flow.step
    async def step(ctx, number: int) -> int:
        ran.append(number)
        return number

    @flow.workflow(name="chain")
    async def chain(ctx, steps: int) -> int:
        for number in range(steps):
            await step(ctx, number)
        return steps

    @flow.workflow(name="waiting")
    async def waiting(ctx, steps: int) -> int:
        for number in range(steps):
            await step(ctx, number)
        await ctx.wait_signal("go")
        return steps

    return ran


async def test_a_start_is_one_statement(flow: Flow, sent) -> None:
    """So is a start of many, whatever their number."""
    register(flow)
    async with flow:
        before = sent()
        await flow.start("chain", 1)
        assert sent() - before == {"insert_run": 1}
        before = sent()
        await flow.start_many("chain", [1] * 500)
        assert sent() - before == {"insert_runs_array": 1}


async def test_a_batch_of_runs_costs_by_the_batch(flow: Flow, serving, sent, sql) -> None:
    """Forty runs are claimed in one round trip with what they need, a step of all of them is one
    flush, and they end in one statement.
    """
    ran = register(flow)
    async with flow:
        ids = await flow.start_many("chain", [STEPS] * RUNS)
    before = sent()
    async with serving(flow, concurrency=100, lead=False):
        await eventually(
            lambda: sql.fetchval(
                "SELECT count(*) = $1 FROM run WHERE finished_at IS NOT NULL", RUNS
            )
        )
        asked = sent() - before
    assert sorted(ran) == sorted(list(range(STEPS)) * RUNS)
    assert await sql.fetchval("SELECT count(*) FROM journal") == RUNS * STEPS
    assert asked.pop("append_entries") == STEPS
    assert asked.pop("finish_runs") == 1
    assert asked.pop("claim_runs") <= 2  # the one that brings them, and a look at the first tick
    assert set(asked) <= {"resign", "end_worker", "held_runs", "outcomes"}, asked
    assert len(ids) == RUNS


async def test_one_run_flushes_each_step_once(flow: Flow, serving, sent) -> None:
    """A sequential run alone costs one statement a step, one claim and one end."""
    register(flow)
    async with serving(flow, lead=False):
        await flow.run("chain", 1)
        before = sent()
        await flow.run("chain", 10)
        asked = sent() - before
    assert asked["append_entries"] == 10
    assert asked["finish_runs"] == 1
    assert asked["insert_run"] == 1


async def test_a_replayed_step_costs_nothing(flow: Flow, serving, sent, sql) -> None:
    """A run whose memory is gone comes back with its journal in the claim: no statement per step,
    and none runs again.
    """
    ran = register(flow)
    async with serving(flow, lead=False, warm=0):
        run = await flow.start("waiting", 50)
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        assert len(ran) == 50
        before = sent()
        await flow.send_signal(run, "go")
        assert await flow.result(run, timeout=10) == 50
        asked = sent() - before
    assert len(ran) == 50
    assert asked["append_entries"] == 0
    assert asked["append_taking_signals"] == 1
    assert asked["finish_runs"] == 1


async def test_a_signal_to_a_parked_run_is_taken_in_the_statement_that_claims_it(
    flow: Flow, serving, sent, sql
) -> None:
    """A run that its worker has in memory costs one statement between the signal and its going on:
    no claim of the queue, no entry of its own; and it has the journal of any other.
    """
    register(flow)
    async with serving(flow, lead=False):
        run = await flow.start("waiting", 1)
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        before = sent()
        await flow.send_signal(run, "go", {"a": "ü"})
        assert await flow.result(run, timeout=10) == 1
        asked = sent() - before
    assert asked["wake_runs"] == 1
    assert asked["append_taking_signals"] == 0
    entry = await sql.fetchrow("SELECT * FROM journal WHERE kind = 'signal'")
    assert (entry["seq"], entry["claim"], entry["name"]) == (2, 2, "go")
    assert entry["value"] == '[1,"go",{"a":"ü"}]'
    assert tuple(await sql.fetchrow("SELECT taken, taken_seq FROM signal")) == (True, 2)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        'a "quoted" one',
        "back\\slash",
        '\\"',
        "a,b)(c",
        " ",
        "",
        "NULL",
        "ünï 🎈",
        "a\nb\tc",
    ],
)
async def test_a_line_of_the_journal_arrives_as_it_is(flow: Flow, sql, schema: str, text) -> None:
    """Keys, names and values of any form survive the literal in which a flush carries them."""
    import json
    from uuid import uuid4

    async with flow:
        worker = await sql.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('t', 't', 1, '{}', '{}', 1, false) RETURNING id"
        )
        run, value = uuid4(), json.dumps({text: [text]}, ensure_ascii=False)
        lines = [
            journal_line(
                run, f"k{text}", 1, "step", text, True, value, 2, 3, 1.5, 1700000000.000001
            ),
            journal_line(run, f"l{text}", 2, "timer", text, False, None, 2, 1, 0.0, 0.0),
        ]
        assert await sql.fetchval(queries(schema)["append_entries"], worker, lines) == 2
        first, second = await sql.fetch(
            "SELECT *, extract(epoch FROM at)::float8 AS epoch FROM journal ORDER BY seq"
        )
    assert (first["key"], first["name"], first["value"]) == (f"k{text}", text, value)
    assert (first["failed"], first["claim"], first["attempt"]) == (True, 2, 3)
    assert first["epoch"] == 1700000000.000001
    assert (second["key"], second["failed"], second["value"]) == (f"l{text}", False, None)


async def test_half_of_the_runs_is_written_while_the_other_runs(flow: Flow, serving, sql) -> None:
    """When many runs wake at once and no flush is under way, half of them go first: two flushes
    carry a step of all of them, each half of the size.
    """
    many = 80
    register(flow)
    async with flow:
        await flow.start_many("chain", [1] * many)
    async with serving(flow, concurrency=100, lead=False):
        await eventually(
            lambda: sql.fetchval(
                "SELECT count(*) = $1 FROM run WHERE finished_at IS NOT NULL", many
            )
        )
    sizes = await sql.fetch("SELECT count(*) AS n FROM journal GROUP BY xmin::text")
    assert sorted(row["n"] for row in sizes) == [many // 2, many // 2]


async def test_a_fault_in_one_run_leaves_the_others_alone(flow: Flow, serving, monkeypatch) -> None:
    """An error of the engine's own while it advances a run reaches the loop's handler; the runs
    that woke with it go on.
    """
    from forktex_core.flow.engine.execution import Execution

    register(flow)
    seen: list[dict] = []
    advance = Execution.advance
    async with flow:
        bad, *good = await flow.start_many("chain", [2] * 5)

    def faulty(self) -> None:
        if self.run_id == bad:
            raise RuntimeError("a fault of ours")
        advance(self)

    monkeypatch.setattr(Execution, "advance", faulty)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context))
    async with serving(flow, lead=False):
        assert await asyncio.gather(*(flow.result(i, timeout=10) for i in good)) == [2] * 4
    assert str(bad) in seen[0]["message"]


def test_the_command_line_takes_uvloop_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of ``forktex-flow worker`` run on uvloop when it can be imported, and on asyncio's
    own loop when not.
    """
    import sys
    from types import SimpleNamespace

    from forktex_core.flow.cli.loop import event_loop

    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert event_loop() is asyncio.new_event_loop
    there = SimpleNamespace(new_event_loop=object())
    monkeypatch.setitem(sys.modules, "uvloop", there)
    assert event_loop() is there.new_event_loop

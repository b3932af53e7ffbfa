# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queues: limits across workers, shares of keys, priorities, deduplication, pauses."""

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack

import pytest

from forktex_core.flow import DefinitionError, Flow, QueueState
from forktex_core.flow.store.sql import queries
from tests.waiting import eventually


class Gauge:
    """A workflow that counts how many of its runs are executed at once, over all workers."""

    def __init__(self, *flows: Flow) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []
        self.gate: asyncio.Event | None = None
        for flow in flows:
            self.register(flow)

    def register(self, flow: Flow) -> None:
        async def measured(name: str) -> None:
            self.order.append(name)
            for what in (name, ""):
                self.now[what] += 1
                self.most[what] = max(self.most[what], self.now[what])
            try:
                await (self.gate.wait() if self.gate else asyncio.sleep(0.005))
            finally:
                for what in (name, ""):
                    self.now[what] -= 1

        @flow.workflow(name="gauge")
        async def gauge(ctx, name: str) -> str:
            await ctx.step(measured, name)
            return name


@pytest.fixture
async def crew(postgres, schema: str):
    """Three Flows with a worker each, as three processes would have them."""
    flows = [Flow(postgres.url, schema=schema) for _ in range(3)]
    yield flows
    for flow in flows:
        await flow.close()


async def serve(stack: AsyncExitStack, serving, flows: list[Flow], **settings) -> None:
    for flow in flows:
        await stack.enter_async_context(serving(flow, **settings))


async def test_concurrency_holds_across_workers(crew, serving) -> None:
    """Three workers with many slots never execute more of a queue than it allows, and no slot that
    falls free waits for the next tick.
    """
    gauge = Gauge(*crew)
    async with AsyncExitStack() as stack:
        await serve(stack, serving, crew)
        await crew[0].queue("default", concurrency=4)
        ids = await crew[0].start_many("gauge", ["a"] * 300)
        await asyncio.gather(*(crew[0].result(i, timeout=15) for i in ids))
        state = (await crew[0].queues())[0]
    assert gauge.most[""] <= 4
    assert gauge.most[""] > 1
    assert state == QueueState("default", False, 4, None, None, 0)


async def test_per_key_limits_hold_across_workers(crew, serving) -> None:
    """No key has more than its number of runs executed, while keys go on side by side."""
    gauge = Gauge(*crew)
    async with AsyncExitStack() as stack:
        await serve(stack, serving, crew)
        await crew[0].queue("default", per_key=2)
        ids = []
        for name in "abc":
            ids += await crew[0].start_many("gauge", [name] * 30, key=name)
        await asyncio.gather(*(crew[0].result(i, timeout=20) for i in ids))
    assert all(gauge.most[name] <= 2 for name in "abc")
    assert gauge.most[""] > 2


async def test_rate_is_never_exceeded(flow: Flow, serving, sql) -> None:
    """No more runs begin in any window than the rate allows, by the database's clock; and it is
    used: a window later the next ones begin.
    """
    Gauge(flow)
    async with serving(flow):
        await flow.queue("default", rate=(5, 0.5))
        ids = await flow.start_many("gauge", ["a"] * 20)
        await asyncio.gather(*(flow.result(i, timeout=20) for i in ids))
    starts = [r["started_at"] for r in await sql.fetch("SELECT started_at FROM run ORDER BY 1")]
    for first, sixth in zip(starts, starts[5:], strict=False):
        assert (sixth - first).total_seconds() > 0.49
    assert (starts[-1] - starts[0]).total_seconds() < 8


async def claimed(sql, schema: str, slots: int, queue: str = "default") -> list[str]:
    """Claim as a worker would, and return the keys of what was claimed."""
    worker = await sql.fetchval(
        "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
        " VALUES ('t', 't', 1, '{}', '{}', 1, false) RETURNING id"
    )
    rows = await sql.fetch(
        queries(schema)["claim_runs"], worker, [queue], ["gauge@1"], slots, [], []
    )
    ids = [row["run_id"] for row in rows if row["part"] == "r"]
    found = await sql.fetch("SELECT key, priority FROM run WHERE id = ANY ($1)", ids)
    return sorted(f"{row['key']}{row['priority'] or ''}" for row in found)


async def test_a_backlog_of_one_key_starves_no_other(flow: Flow, schema: str, sql) -> None:
    """Behind twenty thousand runs of one key, another's ten are claimed in turn: half of each claim
    is theirs until they are through, and a claim reads no more of the backlog than it takes.
    """
    Gauge(flow)
    async with flow:
        await flow.start_many("gauge", ["big"] * 20_000, key="big")
        await flow.start_many("gauge", ["small"] * 10, key="small")
        await sql.execute("ANALYZE run")
        first = Counter(await claimed(sql, schema, 10))
        assert first == {"big": 5, "small": 5}
        second = Counter(await claimed(sql, schema, 10))
        assert second == {"big": 5, "small": 5}
        assert Counter(await claimed(sql, schema, 10)) == {"big": 10}
        before = await rows_read(sql)
        await claimed(sql, schema, 10)
        assert await rows_read(sql) - before < 200


async def rows_read(sql) -> int:
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    return await sql.fetchval(
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        " WHERE relid = 'run'::regclass"
    )


async def test_one_free_slot_goes_round_the_keys(flow: Flow, schema: str, sql) -> None:
    """With a slot at a time, every key has its turn before any has a second one; runs without a key
    take part as one more.
    """
    Gauge(flow)
    async with flow:
        for name in "abc":
            await flow.start_many("gauge", [name] * 50, key=name)
        turns = [(await claimed(sql, schema, 1))[0] for _ in range(9)]
        assert [sorted(turns[n : n + 3]) for n in (0, 3, 6)] == [["a", "b", "c"]] * 3
        await flow.start_many("gauge", ["x"] * 50)
        assert set(await claimed(sql, schema, 8)) == {"a", "b", "c", "None"}


async def test_priorities_within_queue_and_key(flow: Flow, schema: str, sql) -> None:
    """Higher goes first, with keys and without."""
    Gauge(flow)
    async with flow:
        for priority in (0, 7, 3):
            await flow.start("gauge", "a", key="a", priority=priority)
            await flow.start("gauge", "a", queue="plain", priority=priority)
        assert [await claimed(sql, schema, 1) for _ in range(3)] == [["a7"], ["a3"], ["a"]]
        plain = [await claimed(sql, schema, 1, "plain") for _ in range(3)]
        assert plain == [["None7"], ["None3"], ["None"]]


async def test_keys_at_their_limit_hide_nobody(flow: Flow, schema: str, sql) -> None:
    """More keys than a claim looks at are at their limit; the one that is not is found."""
    Gauge(flow)
    async with flow:
        await flow.queue("default", per_key=1)
        for number in range(80):
            await flow.start_many("gauge", ["k"] * 2, key=f"k{number:03}")
        assert len(await claimed(sql, schema, 100)) == 80
        await flow.start("gauge", "z", key="k078z")  # the last but one after the cursor
        found: list[str] = []
        for _ in range(4):
            found += await claimed(sql, schema, 1)
        assert found == ["k078z"]


async def test_waiting_runs_come_back_in_their_keys_turn(flow: Flow, serving, sql) -> None:
    """A run with a key that slept or got a signal goes on, and holds no slot while it waits."""
    order: list[str] = []

    async def note(what: str) -> None:
        order.append(what)

    @flow.workflow(name="sleeper")
    async def sleeper(ctx, name: str) -> None:
        await ctx.step(note, f"{name} began")
        await (ctx.sleep(0.3) if name == "slow" else ctx.wait_signal("go"))
        await ctx.step(note, f"{name} ended")

    async with serving(flow):
        await flow.queue("default", concurrency=1)
        slow = await flow.start("sleeper", "slow", key="k")
        other = await flow.start("sleeper", "other", key="k")
        await eventually(lambda: {"slow began", "other began"} <= set(order))
        await flow.send_signal(other, "go")
        await flow.result(other, timeout=10)
        await flow.result(slow, timeout=10)
    assert sorted(order) == ["other began", "other ended", "slow began", "slow ended"]


async def test_deduplication(flow: Flow, serving, sql) -> None:
    """While a run with a key has not ended, a second start returns it, also twenty at once; then
    the key is free again. It is a matter of the queue.
    """
    Gauge(flow)
    async with serving(flow):
        made = await asyncio.gather(
            *(flow.start("gauge", "a", deduplication_key="d", delay=0.2) for _ in range(20))
        )
        assert len(set(made)) == 1
        other = await flow.start("gauge", "a", deduplication_key="d", queue="elsewhere")
        assert other != made[0]
        await flow.result(made[0], timeout=10)
        assert await flow.start("gauge", "a", deduplication_key="d") != made[0]


async def test_a_paused_queue_stands_still(flow: Flow, serving, sql) -> None:
    """Nothing of it is claimed, other queues go on, and resuming wakes the worker."""
    gauge = Gauge(flow)
    async with serving(flow, queues=("default", "other")):
        await flow.pause_queue("default")
        held = await flow.start("gauge", "held")
        keyed = await flow.start("gauge", "keyed", key="k")
        await flow.result(await flow.start("gauge", "free", queue="other"), timeout=10)
        assert gauge.order == ["free"]
        assert await sql.fetchval("SELECT count(*) = 2 FROM run WHERE status = 'pending'")
        await flow.resume_queue("default")
        assert await flow.result(held, timeout=10) == "held"
        assert await flow.result(keyed, timeout=10) == "keyed"


async def test_delayed_runs_with_a_key(flow: Flow, serving, sql) -> None:
    """They begin when they are due, and hide nothing that is due before."""
    Gauge(flow)
    async with serving(flow):
        await flow.start_many("gauge", ["late"] * 300, key="a", delay=3600)
        soon = await flow.start("gauge", "soon", key="a", delay=0.3)
        now = await flow.start("gauge", "now", key="b")
        assert await flow.result(now, timeout=10) == "now"
        assert await flow.result(soon, timeout=10) == "soon"
        assert await sql.fetchval("SELECT count(*) FROM run WHERE status = 'waiting'") == 300


async def test_limits_survive_the_death_of_a_worker(flow: Flow, serving, sql, schema) -> None:
    """What a dead worker held counts no more once its runs are handed on."""
    gauge = Gauge(flow)
    async with flow:
        await flow.queue("default", concurrency=2)
        await flow.start_many("gauge", ["a"] * 4, key="a")
        assert len(await claimed(sql, schema, 4)) == 2
        assert await claimed(sql, schema, 4) == []
        dead = await sql.fetchval("SELECT min(worker_id) FROM run")
        await sql.execute(f'SELECT "{schema}".end_worker($1, $2)', dead, "test")
    async with serving(flow):
        await eventually(
            lambda: sql.fetchval("SELECT count(*) = 4 FROM run WHERE status='succeeded'")
        )
    assert gauge.most[""] <= 2


@pytest.mark.parametrize(
    "limits", [{"concurrency": 0}, {"per_key": 0}, {"rate": (0, 1)}, {"rate": (1001, 60)}]
)
async def test_limits_that_make_no_sense(flow: Flow, limits) -> None:
    """They are refused with what would."""
    async with flow:
        with pytest.raises(ValueError, match=r"at least 1|1 to 1000"):
            await flow.queue("q", **limits)
        with pytest.raises(DefinitionError, match="queue name"):
            await flow.queue("")


async def test_shares_of_many_keys_are_equal(crew, serving) -> None:
    """Four keys with very different backlogs, three workers: while all have work, none is served
    more than a claim's share ahead of another.
    """
    gauge = Gauge(*crew)
    gauge.gate = None
    async with AsyncExitStack() as stack:
        for flow in crew:
            await stack.enter_async_context(flow)
        counts = {"a": 200, "b": 60, "c": 30, "d": 30}
        ids = []
        for name, count in counts.items():
            ids += await crew[0].start_many("gauge", [name] * count, key=name)
        tasks = [asyncio.create_task(f.run_worker(concurrency=4)) for f in crew]
        await asyncio.gather(*(crew[0].result(i, timeout=30) for i in ids))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    seen: dict[str, int] = defaultdict(int)
    for name in gauge.order[:100]:
        seen[name] += 1
    assert max(seen.values()) - min(seen.values()) <= 12, dict(seen)

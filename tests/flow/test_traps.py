# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Traps of the protocol: fences (1), snapshots (2), timers (6), warm runs (7), liveness (8), locks
(10). The others stand in test_engine.py, test_journal.py, test_pooled.py and test_pipelined.py.
"""

import asyncio
import gc
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from forktex_core.flow import Flow, FlowContext
from forktex_core.flow.engine.journal import entry_row
from forktex_core.flow.replay import Entry
from forktex_core.flow.store.effects import EffectColumns, NewValue
from forktex_core.flow.store.sql import queries
from forktex_core.flow.store.store import Store, journal_line
from tests.flow.test_engine import worker_row
from tests.waiting import eventually


@pytest.mark.parametrize("form", ["timeout", "wait_for", "sleep", "wait_signal"])
async def test_a_time_limit_does_not_start_anew_at_a_replay(
    flow: Flow, serving, sql, form: str
) -> None:
    """A limit that a body set stays at its moment, whatever happens to the process (trap 6)."""

    async def two(ctx: FlowContext) -> None:
        await ctx.wait_signal("first")
        await ctx.wait_signal("second")

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        if form == "timeout":
            async with asyncio.timeout(3600):
                await two(ctx)
        elif form == "wait_for":
            await asyncio.wait_for(two(ctx), 3600)
        elif form == "sleep":
            await ctx.select(limit=ctx.sleep(3600), work=two(ctx))
        else:
            await ctx.gather(ctx.wait_signal("end", timeout=3600), two(ctx))

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await eventually(lambda: not flow._workers[0]._active)
        before = await sql.fetchval("SELECT due_at FROM run")
        await flow.send_signal(run_id, "first")
        await eventually(lambda: sql.fetchval("SELECT claim = 2 AND status = 'waiting' FROM run"))
        assert await sql.fetchval("SELECT due_at FROM run") == before
        await flow.send_signal(run_id, "second")
        await flow.send_signal(run_id, "end")
        await flow.result(run_id, timeout=10)


async def test_a_warm_run_that_went_on_elsewhere_is_not_reused(
    flow: Flow, serving, sql, postgres, schema: str
) -> None:
    """What a worker holds warm counts only when nobody claimed the run in between (trap 7)."""

    def build(flow: Flow, ran: list[str]) -> Flow:
        @flow.workflow(name="body")
        async def body(ctx: FlowContext) -> list[str]:
            ran.append("began")
            return [await ctx.wait_signal("s"), await ctx.wait_signal("s")]

        return flow

    here, there = [], []
    other = Flow(postgres.url, schema=schema)
    async with serving(build(flow, here)):
        run_id = await flow.start("body")
        await eventually(lambda: flow._workers and flow._workers[0]._warm)
        store = flow._workers[0]._claim_store
        claim, wake = store.claim_runs, store.wake_runs

        async def none(*_, **__):
            return [], None

        async def nobody(*_, **__):
            return []

        store.claim_runs, store.wake_runs = none, nobody
        async with serving(build(other, there)):
            await flow.send_signal(run_id, "s", "elsewhere")
            await eventually(
                lambda: sql.fetchval("SELECT claim = 2 AND status = 'waiting' FROM run")
            )
        store.claim_runs, store.wake_runs = claim, wake
        await flow.send_signal(run_id, "s", "here")
        assert await flow.result(run_id, timeout=10) == ["elsewhere", "here"]
    assert (here, there) == (["began", "began"], ["began"])


async def test_eviction_leaves_nothing_half_unwound(flow: Flow, serving, sql, monkeypatch) -> None:
    """A body that is dropped in the midst of nested branches is closed for good, however many of
    them wait for their parts to end: nothing is left for the garbage collector to complain of
    (trap 7).
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        try:
            async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
                tasks = [g.create_task(ctx.wait_signal("never")) for g in (outer, inner)]
                await ctx.select(end=ctx.wait_signal("end"), late=ctx.sleep(3600))
                for task in tasks:
                    task.cancel()
        finally:
            await asyncio.sleep(0)
            await ctx.sleep(1)

    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await eventually(lambda: not flow._workers[0]._active)
        gc.collect()
        assert [c.exc_value for c in complaints] == []
        await flow.send_signal(run_id, "end")
        await flow.result(run_id, timeout=10)
    gc.collect()
    assert [c.exc_value for c in complaints] == []


async def test_signals_lock_their_runs_in_the_order_of_ids(
    flow: Flow, sql, postgres, schema: str
) -> None:
    """Whoever sends to many runs waits for the first one without holding a later one, so two such
    senders never wait in a circle (trap 10).
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None: ...

    async with flow:
        first, second = sorted([await flow.start("body"), await flow.start("body")])
        blocking = await asyncpg.connect(postgres.dsn)
        try:
            transaction = blocking.transaction()
            await transaction.start()
            lock = f'SELECT FROM "{schema}".run WHERE id = $1 FOR NO KEY UPDATE'
            await blocking.execute(lock, first)
            signals = [(second, "s", "1"), (first, "s", "1")]
            sending = asyncio.create_task(flow._opened.store.put_signals(signals))
            await eventually(
                lambda: sql.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            await blocking.execute(f"{lock} NOWAIT", second)
            await transaction.rollback()
            assert len(await sending) == 2
        finally:
            await blocking.close()


def flush(kind: str, store: Store, worker: int, run: UUID) -> tuple[Any, ...]:
    """The query and arguments of a flush of one entry, in one of its three forms."""
    entry = Entry("1", 1, "step", "s", False, "1", 1, 1, 0.0, 0.0)
    row = entry_row(run, entry)
    if kind == "append_entries":
        return worker, [journal_line(*row)]
    if kind == "append_taking_signals":
        return worker, [journal_line(*row)], [run], [1], [1]
    effects = EffectColumns()
    effects.add(1, [NewValue(run, "k", "1", 1)])
    return tuple(store.effect_arguments(worker, [row], [], effects))


@pytest.mark.parametrize("kind", ["append_entries", "append_taking_signals", "append_effects"])
async def test_each_form_of_a_flush_waits_at_the_fence(
    flow: Flow, schema: str, sql, postgres, kind: str
) -> None:
    """A flush that began before its worker's end was committed writes nothing: neither entry, nor
    signal, nor effect (trap 1).
    """
    async with flow:
        worker, run = await worker_row(sql), uuid4()
        await sql.execute("INSERT INTO signal (run_id, no, name) VALUES ($1, 1, 's')", run)
        other = await asyncpg.connect(postgres.dsn)
        try:
            ending = other.transaction()
            await ending.start()
            await other.execute(f'SELECT "{schema}".end_worker($1, $2)', worker, "test")
            arguments = flush(kind, flow._opened.store, worker, run)
            flushing = asyncio.create_task(sql.fetch(queries(schema)[kind], *arguments))
            await eventually(
                lambda: other.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            await ending.commit()
            await flushing
        finally:
            await other.close()
        for table in ("journal", "published", "signal WHERE taken"):
            assert await sql.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_claim_reads_the_journal_after_it_has_the_run(
    flow: Flow, schema: str, sql, postgres
) -> None:
    """What was written while the claim waited for its locks is in the journal that it brings: the
    journal is no older than the claim (trap 2).
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None: ...

    async with flow:
        run_id, worker = await flow.start("body"), await worker_row(sql)
        await sql.execute("UPDATE run SET claim = 1")  # a first claim has none to read
        other = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
        try:
            holding = other.transaction()
            await holding.start()
            await other.execute("SELECT FROM worker WHERE id = $1 FOR UPDATE", worker)
            claim = flow._link("claims")
            store = Store(claim, schema)
            claiming = asyncio.create_task(store.claim_runs(worker, ["default"], ["body@1"], 5, {}))
            await eventually(
                lambda: sql.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            line = journal_line(run_id, "1", 1, "step", "s", False, "1", 1, 1, 0.0, 0.0)
            former = await worker_row(sql)
            assert await sql.fetchval(queries(schema)["append_entries"], former, [line]) == 1
            await holding.commit()
            ((claimed,), _) = await claiming
            assert [entry.key for entry in claimed.entries] == ["1"]
            await claim.close()
        finally:
            await other.close()


async def test_the_living_get_time_to_take_their_locks_again(flow: Flow, serving) -> None:
    """A leader that was just elected does not take the absence of a lock for a death, and never
    right after a start of the server (trap 8).
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None: ...

    asked: list[dict[str, Any]] = []
    async with serving(flow):
        await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
        leader = flow._workers[0]._leader
        store, real = leader._store, leader._store.do_chores

        async def chores(*args: Any, **options: Any) -> Any:
            asked.append(options)
            return await real(*args, **options)

        await eventually(lambda: leader.term is not None)
        store.do_chores = chores
        term = leader.term
        leader.take_office(0, None)
        leader.take_office(flow._workers[0].worker_id, term)
        asked.clear()
        await leader._chores()
        first = asked[-1]
        await eventually(lambda: leader.trust_locks)
        await leader._chores()
    assert (first["trust_locks"], asked[-1]["trust_locks"]) == (False, True)
    assert first["grace"] >= timedelta(seconds=1)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The traps of the protocol, each fallen into on purpose, and the statement budget."""

import asyncio
from uuid import UUID, uuid4

import pytest

from forktex_core.flow import Flow, RunHalted
from forktex_core.flow.store.sql import queries
from forktex_core.flow.store.store import journal_line
from tests.waiting import eventually


async def worker_row(sql) -> int:
    return await sql.fetchval(
        "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
        " VALUES ('t', 't', 1, '{}', '{}', 1, false) RETURNING id"
    )


def one_entry(worker: int, run: UUID, key: str = "1") -> tuple[object, ...]:
    return worker, [journal_line(run, key, 1, "step", "s", False, "1", 1, 1, 0.0, 0.0)]


async def test_stale_fence(flow: Flow, schema: str, sql, postgres) -> None:
    """A flush that began before its worker was ended, and waits for that, writes nothing (trap
    1).
    """
    import asyncpg

    async with flow:
        worker, run = await worker_row(sql), uuid4()
        append = queries(schema)["append_entries"]
        assert await sql.fetchval(append, *one_entry(worker, run)) == 1
        other = await asyncpg.connect(postgres.dsn)
        try:
            ending = other.transaction()
            await ending.start()
            await other.execute(f'SELECT "{schema}".end_worker($1, $2)', worker, "test")
            flush = asyncio.create_task(sql.fetchval(append, *one_entry(worker, run, "2")))
            await eventually(
                lambda: other.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            await ending.commit()
            assert await flush == 0
        finally:
            await other.close()
        assert await sql.fetchval("SELECT count(*) FROM journal") == 1


async def test_flush_holds_off_the_end_of_its_worker(
    flow: Flow, schema: str, sql, postgres
) -> None:
    """Handing a worker's runs on waits for its flush in flight, so the next claim reads a complete
    journal (trap 2).
    """
    import asyncpg

    async with flow:
        worker, run = await worker_row(sql), uuid4()
        flushing = await asyncpg.connect(postgres.dsn)
        try:
            transaction = flushing.transaction()
            await transaction.start()
            await flushing.fetchval(queries(schema)["append_entries"], *one_entry(worker, run))
            end = asyncio.create_task(
                sql.fetchval(
                    "SELECT end_worker($1, 'x')".replace("end_worker", f'"{schema}".end_worker'),
                    worker,
                )
            )
            await eventually(
                lambda: flushing.fetchval(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
            )
            assert not end.done()
            await transaction.commit()
            await end
        finally:
            await flushing.close()


async def test_a_retried_flush_is_recognised(flow: Flow, schema: str, sql) -> None:
    """The same entries a second time (an acknowledgement was lost) are found as written; another
    worker's are not.
    """
    async with flow:
        worker, run = await worker_row(sql), uuid4()
        append, written = queries(schema)["append_entries"], queries(schema)["entries_written"]
        assert await sql.fetchval(append, *one_entry(worker, run)) == 1
        assert await sql.fetchval(append, *one_entry(worker, run)) == 0
        assert len(await sql.fetch(written, worker, [run], ["1"], [1], [1])) == 1
        assert not await sql.fetch(written, worker + 1, [run], ["1"], [1], [1])


async def test_parking_sees_a_signal_sent_meanwhile(flow: Flow, schema: str, sql) -> None:
    """A park that has not seen the last signal is refused: no wake-up is lost (trap 3)."""

    @flow.workflow()
    async def body(ctx) -> None: ...

    async with flow:
        run_id = await flow.start("body")
        worker = await worker_row(sql)
        await sql.fetch(queries(schema)["claim_runs"], worker, ["default"], ["body@1"], 5, [], [])
        await flow.send_signal(run_id, "go")
        park = queries(schema)["park_runs"]
        assert [
            tuple(r) for r in await sql.fetch(park, worker, [run_id], [1], [0], [None], [""])
        ] == [(run_id, "stale")]
        assert [
            tuple(r) for r in await sql.fetch(park, worker, [run_id], [9], [1], [None], [""])
        ] == [(run_id, "lost")]
        assert [
            tuple(r) for r in await sql.fetch(park, worker, [run_id], [1], [1], [None], [""])
        ] == [(run_id, "parked")]
        await flow.send_signal(run_id, "go")
        assert await sql.fetchval("SELECT due_at <= clock_timestamp() FROM run")


async def test_an_ended_worker_claims_nothing(flow: Flow, schema: str, sql) -> None:
    """A worker whose life was ended can't take runs that nobody would hand on."""

    @flow.workflow()
    async def body(ctx) -> None: ...

    async with flow:
        await flow.start("body")
        worker = await worker_row(sql)
        await sql.execute("UPDATE worker SET ended_at = now(), end_reason = 'x'")
        assert not await sql.fetch(
            queries(schema)["claim_runs"], worker, ["default"], ["body@1"], 5, [], []
        )


async def test_changed_code_halts_the_run_and_loses_nothing(
    flow: Flow, serving, sql, postgres, schema: str
) -> None:
    """Code that asks for something else than the journal holds stops the run; its journal stays as
    it was.
    """

    async def first() -> int:
        return 1

    async def second() -> int:
        return 2

    @flow.workflow(name="changing")
    async def before(ctx) -> int:
        await ctx.step(first)
        await ctx.wait_signal("go")
        return 1

    async with serving(flow):
        run_id = await flow.start("changing")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
    later = Flow(postgres.url, schema=schema)

    @later.workflow(name="changing")
    async def after(ctx) -> int:
        await ctx.step(second)
        return 2

    async with serving(later):
        await later.send_signal(run_id, "go")
        with pytest.raises(
            RunHalted,
            match=r"the journal holds step '.*first' at 1, the code asks for step '.*second'",
        ):
            await later.result(run_id, timeout=10)
    assert await sql.fetchval("SELECT status FROM run") == "paused"
    assert await sql.fetchval("SELECT count(*) FROM journal") == 1


async def test_eviction_runs_no_durable_code(flow: Flow, serving, sql) -> None:
    """Dropping a warm run from memory unwinds its finally blocks without executing or recording
    anything (trap 7).
    """
    ran: list[str] = []

    async def cleanup() -> None:
        ran.append("cleanup")

    @flow.workflow()
    async def body(ctx) -> None:
        try:
            await ctx.wait_signal("go")
        finally:
            ctx.progress(1)
            await ctx.step(cleanup)

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await eventually(lambda: not flow._workers[0]._active)
        assert ran == []
        assert flow._workers[0]._journal._shown == {}
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
    assert ran == ["cleanup"]


async def test_lost_session_of_a_living_worker(flow: Flow, serving, sql, postgres) -> None:
    """Every connection of the worker is cut while it works: it reconnects and its runs complete."""

    async def step() -> int:
        await asyncio.sleep(0.01)
        return 1

    @flow.workflow()
    async def body(ctx) -> int:
        return sum([await ctx.step(step) for _ in range(40)])

    async with serving(flow):
        ids = await flow.start_many("body", [None] * 20)
        await eventually(lambda: sql.fetchval("SELECT count(*) > 50 FROM journal"))
        cut = await sql.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
            "application_name LIKE 'forktex-flow %'"
        )
        assert cut >= 3
        assert await asyncio.gather(*(flow.result(i, timeout=30) for i in ids)) == [40] * 20
    assert await sql.fetchval("SELECT count(*) FROM journal") == 800


async def test_statement_budget(flow: Flow, serving, sql) -> None:
    """A start is one statement; a flush carries the steps of all runs; a warm run is not
    replayed.
    """
    ran: list[int] = []

    @flow.step
    async def step(ctx, n: int) -> int:
        ran.append(n)
        return n

    @flow.workflow()
    async def body(ctx, steps: int) -> int:
        for n in range(steps):
            await step(ctx, n)
        return steps

    class Counted:
        def __init__(self, inner) -> None:
            self.inner, self.statements = inner, []

        async def fetch(self, statement: str, *args: object) -> list:
            if "pg_notify" not in statement:
                self.statements.append(statement)
            return await self.inner(statement, *args)

    async with flow:
        counted = Counted(flow._opened.store._run)
        flow._opened.store._run = counted.fetch
        await flow.start("body", 1)
        assert len(counted.statements) == 1
    ran.clear()
    async with serving(flow, concurrency=50):
        ids = await flow.start_many("body", [20] * 100)
        await asyncio.gather(*(flow.result(i, timeout=30) for i in ids))
        flushes = flow._workers[0]._journal.flushes
    assert len(ran) == 2001
    assert flushes / 2001 < 0.05


async def test_migration_is_safe_for_many_at_once(postgres, schema: str) -> None:
    """Twenty processes that open at the same moment make one schema; a newer one is refused by
    name.
    """
    import asyncpg

    from forktex_core.flow import SchemaTooNewError

    flows = [Flow(postgres.url, schema=schema, pool_size=1) for _ in range(20)]
    await asyncio.gather(*(f.open() for f in flows))
    await asyncio.gather(*(f.close() for f in flows))
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(
            f'INSERT INTO "{schema}".migration (number, name) VALUES (9999, $1)', "future"
        )
        with pytest.raises(SchemaTooNewError, match="upgrade forktex-core"):
            await flows[0].open()
        for sql_text in queries(schema).values():
            await connection.prepare(sql_text)
    finally:
        await connection.close()


async def test_parking_sees_a_signal_delivered_meanwhile(flow: Flow, serving, sql) -> None:
    """A run that asked to park, and is told of a signal before the park is written, goes on: its
    park counts what it had seen when it asked (trap 3).
    """

    @flow.workflow()
    async def body(ctx) -> str:
        return await ctx.wait_signal("go")

    async with serving(flow):
        await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
        worker = flow._workers[0]
        held, park = [], worker._endings.park
        worker._endings.park = held.append
        run_id = await flow.start("body")
        await eventually(lambda: held)
        await flow.send_signal(run_id, "go", "heard")
        read_inbox(worker, run_id)
        await eventually(lambda: worker._active[run_id].seen == 1)
        worker._endings.park = park
        park(held[0])
        assert await flow.result(run_id, timeout=10) == "heard"


def read_inbox(worker, run_id) -> None:
    """Begin to read a claimed run's inbox, as for a signal that came while it was at work."""
    worker._signalled.add(run_id)
    worker._check_signals.set()


@pytest.mark.parametrize("read", [False, True])
async def test_a_signal_that_outruns_the_answer_of_the_park(flow, serving, sql, read: bool) -> None:
    """A run is parked, but its worker doesn't know yet when the signal is heard (and, by a read
    that was under way, delivered): it wakes, and gets the signal once.
    """

    @flow.workflow()
    async def body(ctx) -> list[str]:
        first = await ctx.wait_signal("go")
        return [first, await ctx.wait_signal("go")]

    async with serving(flow):
        await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
        worker = flow._workers[0]
        worker._set_due_alarm = lambda due: None  # no claim is to come first
        held, answered = [], worker._endings._on_parked
        worker._endings._on_parked = lambda *answer: held.append(answer)
        run_id = await flow.start("body")
        await eventually(lambda: held)
        await flow.send_signal(run_id, "go", "one")
        await eventually(lambda: run_id in worker._waking._called)
        if read:
            read_inbox(worker, run_id)
            await eventually(lambda: worker._active[run_id].seen == 1)
        worker._endings._on_parked = answered
        answered(*held[0])
        assert worker._waking._calls.is_set()  # without waiting for the next tick
        parked = "SELECT status = 'waiting' AND signal_seq = 1 AND claim = 2 FROM run"
        await eventually(lambda: sql.fetchval(parked))
        await flow.send_signal(run_id, "go", "two")
        assert await flow.result(run_id, timeout=10) == ["one", "two"]
    assert await sql.fetchval("SELECT count(*) FROM journal") == 2


async def test_a_run_claimed_again_before_the_answer_of_its_park(flow, serving, sql) -> None:
    """The memory that parked is dropped, and the one of the new claim goes on."""

    @flow.workflow()
    async def body(ctx) -> str:
        return await ctx.wait_signal("go")

    async with serving(flow):
        await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())
        worker = flow._workers[0]
        held, answered = [], worker._endings._on_parked
        worker._endings._on_parked = lambda *answer: held.append(answer)
        run_id = await flow.start("body")
        await eventually(lambda: held)
        old = worker._active[run_id]
        await sql.execute("UPDATE run SET due_at = clock_timestamp()")
        worker._maybe_due.set()
        await eventually(lambda: worker._active[run_id] is not old)
        worker._endings._on_parked = answered
        answered(*held[0])
        assert old.sealed
        assert run_id not in worker._warm
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await flow.send_signal(run_id, "go", "heard")
        assert await flow.result(run_id, timeout=10) == "heard"

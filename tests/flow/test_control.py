# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Pausing, resuming, retrying, setting back and forking runs, also under a living worker."""

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.flow import (
    DefinitionError,
    Flow,
    IllegalTransitionError,
    RunConflictError,
    RunFailed,
    RunFinishedError,
    RunHalted,
    RunNotFoundError,
    StepNotFoundError,
)
from forktex_core.flow.setback import Recorded, entry_of, failing_entry
from forktex_core.flow.store.sql import queries
from forktex_core.flow.store.store import journal_line
from tests.waiting import eventually


class Work:
    """Steps that note what ran, and fail or hang as they are told."""

    def __init__(self, flow: Flow) -> None:
        self.ran: list[str] = []
        self.failing: set[str] = set()
        self.hanging: dict[str, asyncio.Event] = {}

        @flow.step
        async def one(ctx) -> str:
            return await self.perform("one")

        @flow.step
        async def two(ctx) -> str:
            return await self.perform("two")

        @flow.step
        async def three(ctx) -> str:
            return await self.perform("three")

        @flow.workflow(name="work")
        async def work(ctx, ask: bool | None = None) -> list[str]:
            done = [await one(ctx)]
            if ask:
                done.append(await ctx.wait_signal("go"))
            done.append(await two(ctx))
            done.append(await three(ctx))
            return done

    async def perform(self, name: str) -> str:
        self.ran.append(name)
        if name in self.hanging:
            await self.hanging[name].wait()
        if name in self.failing:
            raise LookupError(f"{name} found nothing")
        return name


async def status(sql, run_id) -> str:
    return await sql.fetchval("SELECT status FROM run WHERE id = $1", run_id)


# Pause and resume


async def test_pause_takes_a_run_from_its_worker_and_resume_goes_on(flow, serving, sql) -> None:
    """The step that is executed is interrupted, its run stands still, the worker writes nothing of
    it; after resume() the recorded step is not repeated, and the interrupted one is.
    """
    work = Work(flow)
    work.hanging["two"] = asyncio.Event()
    async with serving(flow):
        run_id = await flow.start("work")
        await eventually(lambda: work.ran == ["one", "two"])
        await flow.pause(run_id)
        assert await status(sql, run_id) == "paused"
        await eventually(lambda: not flow._workers[0]._active)
        work.hanging["two"].set()
        await eventually(lambda: sql.fetchval("SELECT cardinality(revoked) = 0 FROM worker"))
        assert await sql.fetchval("SELECT count(*) FROM journal") == 1
        await flow.resume(run_id)
        assert await flow.result(run_id, timeout=10) == ["one", "two", "three"]
    assert work.ran == ["one", "two", "two", "three"]


async def test_pause_of_parked_pending_and_delayed_runs(flow, serving, sql) -> None:
    """A parked run keeps its inbox while it is paused; a delayed one keeps its time."""
    Work(flow)
    async with serving(flow):
        parked = await flow.start("work", True)
        delayed = await flow.start("work", delay=3600)
        await eventually(
            lambda: sql.fetchval("SELECT status='waiting' FROM run WHERE id=$1", parked)
        )
        due = await sql.fetchval("SELECT due_at FROM run WHERE id = $1", delayed)
        await flow.pause(parked)
        await flow.pause(delayed)
        assert await flow.send_signal(parked, "go", "later")
        assert await status(sql, parked) == "paused"
        await flow.resume(parked)
        await flow.resume(delayed)
        assert await flow.result(parked, timeout=10) == ["one", "later", "two", "three"]
        assert await status(sql, delayed) == "pending"
        assert await sql.fetchval("SELECT due_at FROM run WHERE id = $1", delayed) == due


async def test_revoked_run_is_not_claimed_again_before_it_was_dropped(
    flow: Flow, schema: str, sql
) -> None:
    """The fence of a run that was taken from a worker holds until the worker acknowledges: its
    entries are refused, and it claims the run no more; another worker does.
    """

    @flow.workflow()
    async def body(ctx) -> None: ...

    async def worker() -> int:
        return await sql.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('t', 't', 1, '{}', '{}', 1, false) RETURNING id"
        )

    async def claim(number: int) -> int:
        rows = await sql.fetch(
            queries(schema)["claim_runs"], number, ["default"], ["body@1"], 5, [], []
        )
        return len(rows)

    async with flow:
        run_id = await flow.start("body")
        first, second = await worker(), await worker()
        assert await claim(first) == 1
        await flow.pause(run_id)
        entry = (first, [journal_line(run_id, "1", 1, "step", "s", False, "1", 1, 1, 0.0, 0.0)])
        assert await sql.fetchval(queries(schema)["append_entries"], *entry) == 0
        await flow.resume(run_id)
        assert await claim(first) == 0
        await sql.execute(queries(schema)["acknowledge_revoked"], first, [run_id])
        await flow.pause(run_id)
        await flow.resume(run_id)
        assert await claim(first) == 1
        await flow.pause(run_id)
        await flow.resume(run_id)
        assert await claim(first) == 0
        assert await claim(second) == 1


async def test_revoking_waits_for_the_flush_in_flight(
    flow: Flow, schema: str, sql, postgres
) -> None:
    """A flush that holds the fence lands before the run is taken, a later one does not."""
    import asyncpg

    @flow.workflow()
    async def body(ctx) -> None: ...

    append = queries(schema)["append_entries"]

    def entry(worker: int, run_id, key: str) -> tuple[object, ...]:
        return worker, [journal_line(run_id, key, 1, "step", "s", False, "1", 1, 1, 0.0, 0.0)]

    async with flow:
        run_id = await flow.start("body")
        worker = await sql.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock)"
            " VALUES ('t', 't', 1, '{}', '{}', 1, false) RETURNING id"
        )
        await sql.fetch(queries(schema)["claim_runs"], worker, ["default"], ["body@1"], 5, [], [])
        other = await asyncpg.connect(postgres.dsn)
        try:
            flushing = other.transaction()
            await flushing.start()
            assert await other.fetchval(append, *entry(worker, run_id, "1")) == 1
            pausing = asyncio.create_task(flow.pause(run_id))
            waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await eventually(lambda: sql.fetchval(waiting))
            late = asyncio.create_task(sql.fetchval(append, *entry(worker, run_id, "2")))
            await flushing.commit()
            await pausing
            await late
        finally:
            await other.close()
        assert await sql.fetchval(append, *entry(worker, run_id, "3")) == 0
        assert await sql.fetchval("SELECT count(*) FROM journal WHERE key = '1'") == 1


@pytest.mark.parametrize(
    ("act", "state", "error"),
    [
        ("pause", "succeeded", RunFinishedError),
        ("pause", "failed", RunFinishedError),
        ("pause", "paused", IllegalTransitionError),
        ("resume", "pending", IllegalTransitionError),
        ("resume", "succeeded", RunFinishedError),
        ("retry", "succeeded", RunFinishedError),
        ("retry", "waiting", IllegalTransitionError),
        ("rewind", "succeeded", RunFinishedError),
        ("pause", None, RunNotFoundError),
        ("resume", None, RunNotFoundError),
        ("retry", None, RunNotFoundError),
        ("rewind", None, RunNotFoundError),
        ("fork", None, RunNotFoundError),
    ],
)
async def test_what_is_refused(flow, serving, sql, act, state, error) -> None:
    """Each act on a run that is not there, or not in a status for it, is one clear error."""
    work = Work(flow)
    async with serving(flow):
        run_id = uuid4()
        if state is not None:
            work.failing = {"three"} if state == "failed" else set()
            run_id = await flow.start(
                "work", state == "waiting", delay=60 if state == "pending" else None
            )
            if state == "paused":
                await flow.pause(run_id)
            await eventually(
                lambda: sql.fetchval("SELECT status=$2 FROM run WHERE id=$1", run_id, state)
            )
        with pytest.raises(error) as caught:
            if act == "rewind":
                await flow.rewind(run_id, to_step="one")
            elif act == "fork":
                await flow.fork(run_id, from_step="one")
            else:
                await getattr(flow, act)(run_id)
        assert str(run_id) in str(caught.value)


async def test_a_halted_run_goes_on_after_resume(
    flow: Flow, serving, sql, postgres, schema
) -> None:
    """A run that stopped because its code no longer fits is resumed under code that does."""

    async def first() -> int:
        return 1

    async def other() -> int:
        return 2

    def build(*steps) -> Flow:
        made = Flow(postgres.url, schema=schema)

        @made.workflow(name="changing")
        async def body(ctx) -> int:
            total = await ctx.step(steps[0])
            await ctx.wait_signal("go")
            return total

        return made

    good, bad = build(first), build(other)
    async with serving(good):
        run_id = await good.start("changing")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
    async with serving(bad):
        await bad.send_signal(run_id, "go")
        with pytest.raises(RunHalted):
            await bad.result(run_id, timeout=10)
    again = build(first)
    async with serving(again):
        await again.resume(run_id)
        assert await again.result(run_id, timeout=10) == 1


# Retry


async def test_retry_goes_on_from_the_failed_step(flow, serving, sql) -> None:
    """What succeeded before is not repeated; the failed step runs again."""
    work = Work(flow)
    work.failing = {"two"}
    async with serving(flow):
        run_id = await flow.start("work")
        with pytest.raises(RunFailed, match="two found nothing"):
            await flow.result(run_id, timeout=10)
        work.failing = set()
        await flow.retry(run_id)
        assert await flow.result(run_id, timeout=10) == ["one", "two", "three"]
    assert work.ran == ["one", "two", "two", "three"]
    assert await sql.fetchval("SELECT error IS NULL FROM run")


async def test_retry_keeps_what_the_body_had_dealt_with(flow, serving) -> None:
    """A failure that the body caught long before is not repeated; a body that failed by itself
    goes on where it was.
    """
    ran: list[str] = []
    broken = [True]

    async def caught() -> None:
        ran.append("caught")
        raise ValueError("dealt with")

    async def after() -> str:
        ran.append("after")
        return "kept"

    @flow.workflow(name="careful")
    async def careful(ctx) -> str:
        with contextlib.suppress(ValueError):
            await ctx.step(caught)
        result = await ctx.step(after)
        if broken:
            raise RuntimeError("a bug in the body")
        return result

    async with serving(flow):
        run_id = await flow.start("careful")
        with pytest.raises(RunFailed, match="a bug in the body"):
            await flow.result(run_id, timeout=10)
        broken.clear()
        await flow.retry(run_id)
        assert await flow.result(run_id, timeout=10) == "kept"
    assert ran == ["caught", "after"]


async def test_retry_while_another_holds_the_deduplication_key(flow, serving) -> None:
    """Two unfinished runs never hold one key: the retry is refused, and names why."""
    work = Work(flow)
    work.failing = {"one"}
    async with serving(flow):
        failed = await flow.start("work", deduplication_key="d")
        with pytest.raises(RunFailed):
            await flow.result(failed, timeout=10)
        await flow.start("work", delay=60, deduplication_key="d")
        with pytest.raises(RunConflictError, match="deduplication key"):
            await flow.retry(failed)


async def test_retry_of_a_parent_waits_for_its_child_again(flow, serving, sql) -> None:
    """A child that failed is retried, then its parent: it takes the child's new end, not the old
    one, and what it did before is not repeated.
    """
    work = Work(flow)
    work.failing = {"two"}

    async def before() -> None:
        work.ran.append("before")

    @flow.workflow(name="parent")
    async def parent(ctx) -> list[str]:
        await ctx.step(before)
        return await ctx.run_child("work")

    async with serving(flow):
        run_id = await flow.start("parent")
        with pytest.raises(RunFailed, match="two found nothing"):
            await flow.result(run_id, timeout=10)
        work.failing = set()
        child = await sql.fetchval("SELECT id FROM run WHERE parent_id IS NOT NULL")
        await flow.retry(child)
        await flow.result(child, timeout=10)
        await flow.retry(run_id)
        assert await flow.result(run_id, timeout=10) == ["one", "two", "three"]
    assert work.ran == ["before", "one", "two", "two", "three"]


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["step", "signal", "timer", "attempt"]),
        st.sampled_from([None, '{"type":"A","message":"a"}', '{"type":"B","message":"b"}']),
    ),
    max_size=8,
)


@given(ENTRIES, st.sampled_from([("A", "a"), ("C", "c")]))
def test_retry_never_gives_up_a_success_before_the_failure(entries, error) -> None:
    """A retry begins at a failure, never at what succeeded."""
    journal = [Recorded(str(n), n, kind, "s", told) for n, (kind, told) in enumerate(entries)]
    seq = failing_entry({"type": error[0], "message": error[1]}, "failed", journal)
    if seq is not None:
        assert journal[seq].error is not None
        assert journal[seq].kind in ("step", "timer")


# Rewind and fork


async def test_rewind_of_a_parked_run_and_of_one_in_a_step(flow, serving, sql) -> None:
    """The steps from there on run again, those before don't, and signals are in the inbox again."""
    work = Work(flow)
    work.hanging["three"] = asyncio.Event()
    async with serving(flow):
        run_id = await flow.start("work", True)
        await flow.send_signal(run_id, "go", "word")
        await eventually(lambda: work.ran == ["one", "two", "three"])
        await flow.rewind(run_id, to_step="two")
        await eventually(lambda: work.ran == ["one", "two", "three", "two", "three"])
        await flow.rewind(run_id, to_step="one")
        await eventually(lambda: work.ran[5:] == ["one", "two", "three"])
        work.hanging["three"].set()
        assert await flow.result(run_id, timeout=10) == ["one", "word", "two", "three"]
    assert await sql.fetchval("SELECT count(*) FROM journal") == 4


async def test_old_news_of_a_revocation_drops_no_new_claim(flow, serving, sql) -> None:
    """A tick that was answered before a revoked run was claimed again, and is read after, drops
    nothing.
    """
    work = Work(flow)
    work.hanging["three"] = asyncio.Event()
    old: list[dict[str, Any]] = []
    async with serving(flow):
        (worker,) = await eventually(lambda: flow._workers)
        tick = worker._tick

        async def remembering() -> Any:
            row = dict(await tick())
            if row["revoked"]:
                old.append(row)
            return row

        worker._tick = remembering
        run_id = await flow.start("work")
        await eventually(lambda: work.ran == ["one", "two", "three"])
        await flow.rewind(run_id, to_step="two")
        await eventually(lambda: work.ran == ["one", "two", "three", "two", "three"])
        await eventually(lambda: bool(old))

        async def late() -> Any:
            worker._tick = tick
            return {**old[0], "next_due": None}

        worker._tick = late
        worker._pulse_now.set()
        await eventually(lambda: worker._tick is tick)
        await eventually(lambda: not worker._revoking.check.is_set())
        async with worker._claiming:  # what it set going is done
            work.hanging["three"].set()
        assert await flow.result(run_id, timeout=10) == ["one", "two", "three"]
    assert work.ran == ["one", "two", "three", "two", "three"]


async def test_rewind_of_a_warm_run(flow, serving, sql) -> None:
    """A run that waits in a worker's memory is replayed from what is left of its journal."""
    work = Work(flow)
    async with serving(flow):
        run_id = await flow.start("work", True)
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await flow.rewind(run_id, to_step="one")
        await eventually(lambda: work.ran == ["one", "one"])
        await flow.send_signal(run_id, "go", "word")
        assert await flow.result(run_id, timeout=10) == ["one", "word", "two", "three"]


async def test_fork_has_the_journal_up_to_the_step(flow, serving, sql) -> None:
    """The fork repeats nothing before the step, and takes the signals that the original took after
    it; the original stays as it was.
    """
    work = Work(flow)
    async with serving(flow):
        run_id = await flow.start("work", True, metadata={"tenant": "a"})
        await flow.send_signal(run_id, "go", "word")
        first = await flow.result(run_id, timeout=10)
        forked = await flow.fork(run_id, from_step="two")
        assert await flow.result(forked, timeout=10) == first
        assert work.ran == ["one", "two", "three", "two", "three"]
        again = await flow.fork(run_id, from_step="go", idempotency_key="f")
        assert await flow.fork(run_id, from_step="go", idempotency_key="f") == again
        assert await flow.result(again, timeout=10) == first
        with pytest.raises(StepNotFoundError, match=r"no step 'four'; recorded are .*one"):
            await flow.fork(run_id, from_step="four")
    assert await status(sql, run_id) == "succeeded"
    assert await sql.fetchval("SELECT metadata->>'tenant' FROM run WHERE id = $1", forked) == "a"


async def test_a_fork_draws_the_same_random_numbers(flow, serving) -> None:
    """What the body drew before the step decides the same way in the fork."""

    async def drawn(number: float) -> float:
        return number

    @flow.workflow(name="drawing")
    async def drawing(ctx) -> list[object]:
        number = ctx.random().random()
        return [await ctx.step(drawn, number), str(ctx.uuid4()), number]

    async with serving(flow):
        run_id = await flow.start("drawing")
        original = await flow.result(run_id, timeout=10)
        forked = await flow.fork(run_id, from_step="drawn")
        assert await flow.result(forked, timeout=10) == original
        twice = await flow.fork(forked, from_step="drawn")
        assert await flow.result(twice, timeout=10) == original


def test_a_name_that_stands_twice_needs_a_key() -> None:
    """Several steps of one name are told apart by their keys, which the error lists."""
    run_id = uuid4()
    entries = [
        Recorded("1", 1, "step", "mod.charge", None),
        Recorded("2#1", 2, "attempt", "mod.charge", "{}"),
        Recorded("2", 3, "step", "mod.charge", None),
    ]
    with pytest.raises(StepNotFoundError, match=r"several steps 'charge'.*\(1\).*\(2\)"):
        entry_of(run_id, "charge", entries)
    assert entry_of(run_id, "2", entries) == 3


async def test_signals_of_the_engine_are_not_for_users(flow: Flow) -> None:
    """A user can't send what the engine itself means by a name."""
    async with flow:
        with pytest.raises(DefinitionError, match="the engine's"):
            await flow.send_signal(uuid4(), "$cancel", {"kind": "cancel"})

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Cancellation that users can trust, and compensations."""

import asyncio

import pytest

from forktex_core.flow import (
    Flow,
    FlowContext,
    Retry,
    RunCancelled,
    RunFailed,
    RunNotFoundError,
    RunTimeout,
    StepContext,
)
from forktex_core.flow.engine.outcome import cancellation
from tests.waiting import eventually


async def waiting(sql, status: str = "waiting") -> None:
    await eventually(lambda: sql.fetchval("SELECT bool_and(status = $1) FROM run", status))


async def test_a_parked_run_is_interrupted_and_cleans_up(flow: Flow, serving, sql) -> None:
    """The body of a parked run sees CancelledError, its finally runs durable steps, and the run
    ends as cancelled with the reason.
    """
    seen: list[str] = []

    @flow.step
    async def clean(ctx: StepContext) -> None:
        await asyncio.sleep(0)
        seen.append("cleaned")

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        try:
            await ctx.wait_signal("never")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await clean(ctx)
            await ctx.sleep(0.01)
            await clean(ctx)

    async with serving(flow):
        run_id = await flow.start("body")
        await waiting(sql)
        assert await flow.cancel(run_id, "no longer wanted")
        with pytest.raises(RunCancelled, match="the run was cancelled: no longer wanted"):
            await flow.result(run_id, timeout=10)
        assert not await flow.cancel(run_id)
    assert seen == ["cancelled", "cleaned", "cleaned"]
    assert await sql.fetchval("SELECT status FROM run") == "cancelled"


async def test_a_running_step_is_interrupted_at_its_next_await(flow: Flow, serving, sql) -> None:
    """The step's own code sees the cancellation, and nothing of the step is recorded."""
    seen: list[str] = []
    began = asyncio.Event()

    @flow.step
    async def stuck(ctx: StepContext) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("step interrupted")

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        await stuck(ctx)

    async with serving(flow):
        run_id = await flow.start("body")
        await began.wait()
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)
    assert seen == ["step interrupted"]
    assert [r["key"] for r in await sql.fetch("SELECT key FROM journal")] == ["!cancel"]


async def test_a_step_is_interrupted_before_its_run_ends(flow: Flow, serving) -> None:
    """The interruption does not wait for the body's clean-up."""
    began, interrupted = asyncio.Event(), asyncio.Event()

    @flow.step
    async def stuck(ctx: StepContext) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.set()

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        try:
            await stuck(ctx)
        finally:
            await ctx.wait_signal("go on")

    async with serving(flow):
        run_id = await flow.start("body")
        await began.wait()
        await flow.cancel(run_id)
        await asyncio.wait_for(interrupted.wait(), 10)
        await flow.send_signal(run_id, "go on")
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)


async def test_a_second_cancel_does_not_disturb_the_clean_up(flow: Flow, serving, sql) -> None:
    """While the body cleans up, further requests change nothing."""
    seen: list[str] = []

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            seen.append(await ctx.wait_signal("go on"))

    async with serving(flow):
        run_id = await flow.start("body")
        await waiting(sql)
        await flow.cancel(run_id, "first")
        await eventually(lambda: sql.fetchval("SELECT waiting_for LIKE '%go on%' FROM run"))
        assert await flow.cancel(run_id, "second")
        await flow.send_signal(run_id, "go on", "cleaned")
        with pytest.raises(RunCancelled, match="first"):
            await flow.result(run_id, timeout=10)
    assert seen == ["cleaned"]


@pytest.mark.parametrize("waits", ["returns", "goes on for ever"])
async def test_a_body_that_swallows_the_cancellation_ends_all_the_same(
    flow: Flow, serving, sql, waits: str
) -> None:
    """Whatever a body does with CancelledError, its run ends as cancelled: at once when it returns,
    after its grace when it goes on.
    """

    @flow.workflow(cancel_grace=0.3)
    async def body(ctx: FlowContext) -> str:
        while True:
            try:
                await ctx.wait_signal("never")
            except asyncio.CancelledError:
                if waits == "returns":
                    return "swallowed"

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await waiting(sql)
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)
        grace = await sql.fetchval("SELECT count(*) FROM journal WHERE key = '!grace'")
    assert grace == (waits == "goes on for ever")


async def test_a_body_that_spins_on_steps_is_stopped_by_its_grace(flow: Flow, serving, sql) -> None:
    """A body that catches everything and never waits long can't outlive its grace either."""

    async def quick() -> None: ...

    @flow.workflow(cancel_grace=0.2)
    async def body(ctx: FlowContext) -> None:
        while True:
            try:
                await ctx.step(quick)
            except asyncio.CancelledError:
                continue

    async with serving(flow):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT count(*) > 3 FROM journal"))
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)


async def test_force_ends_a_run_without_clean_up(flow: Flow, serving, sql) -> None:
    """cancel(force=True) drops the body as it is, also one that is cleaning up already."""
    seen: list[str] = []

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        ctx.on_rollback(seen.append, "rolled back")
        try:
            await ctx.wait_signal("never")
        finally:
            await ctx.wait_signal("never")
            seen.append("cleaned")

    async with serving(flow):
        run_id = await flow.start("body")
        await waiting(sql)
        await flow.cancel(run_id)
        await eventually(lambda: sql.fetchval("SELECT count(*) = 1 FROM journal"))
        await flow.cancel(run_id, "enough", force=True)
        with pytest.raises(RunCancelled, match="terminated: enough"):
            await flow.result(run_id, timeout=10)
    assert seen == []


async def test_a_run_that_never_began_ends_without_a_worker(flow: Flow, sql) -> None:
    """Nobody serves it, and yet it is cancelled at once; who waits for it is told."""

    @flow.workflow()
    async def body(ctx: FlowContext) -> None: ...

    async with flow:
        run_id = await flow.start("body")
        waiter = asyncio.create_task(flow.result(run_id, timeout=10))
        await eventually(lambda: flow._opened.results._waiting)
        assert await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await waiter
        with pytest.raises(RunNotFoundError):
            await flow.cancel("00000000-0000-7000-8000-000000000000")


async def test_cancelled_error_of_user_code_is_not_a_cancellation(flow: Flow, serving) -> None:
    """A CancelledError that a step or a body raises by itself is a failure like any other."""
    caught: list[str] = []

    @flow.step
    async def odd(ctx: StepContext) -> None:
        raise asyncio.CancelledError("mine")

    @flow.workflow()
    async def in_step(ctx: FlowContext) -> None:
        try:
            await odd(ctx)
        except Exception as error:
            caught.append(type(error).__name__)
            raise

    @flow.workflow()
    async def in_body(ctx: FlowContext) -> None:
        raise asyncio.CancelledError("mine")

    async with serving(flow):
        for name in ("in_step", "in_body"):
            with pytest.raises(RunFailed, match=r"mine|by itself") as failed:
                await flow.run(name, timeout=10)
            assert not isinstance(failed.value, RunCancelled)
    assert caught == ["StepFailed"]


async def test_timeout_fails_the_run(flow: Flow, serving, sql) -> None:
    """A cancellation of the kind timeout lets the body clean up and ends as failed: RunTimeout."""
    seen: list[str] = []

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            seen.append("cleaned")

    async with serving(flow):
        run_id = await flow.start("body")
        await waiting(sql)
        payload = cancellation("timeout", None)
        await flow._opened.store.put_signals([(run_id, "$cancel", payload)])
        with pytest.raises(RunTimeout, match="within its time limit") as failed:
            await flow.result(run_id, timeout=10)
    assert isinstance(failed.value, TimeoutError)
    assert seen == ["cleaned"]
    assert await sql.fetchval("SELECT status FROM run") == "failed"


async def test_cancellation_reaches_every_branch(flow: Flow, serving, sql) -> None:
    """Branches of a TaskGroup, of gather and of select are unwound, each with its own clean-up."""
    seen: list[str] = []

    @flow.step
    async def note(ctx: StepContext, what: str) -> None:
        seen.append(what)

    async def branch(ctx: FlowContext, what: str) -> None:
        try:
            await ctx.wait_signal("never")
        finally:
            await note(ctx, what)

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(ctx, "group"))
            group.create_task(ctx.gather(branch(ctx, "gather"), branch(ctx, "gather")))
            group.create_task(ctx.select(a=branch(ctx, "select"), b=ctx.sleep(3600)))

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await waiting(sql)
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)
    assert sorted(seen) == ["gather", "gather", "group", "select"]


@pytest.mark.parametrize("end", ["failure", "cancel", "success"])
async def test_compensations(flow: Flow, serving, sql, end: str) -> None:
    """Compensations run last first on failure and on cancellation, with retries; one that fails for
    good is reported and the others still run. After success none runs.
    """
    seen: list[object] = []

    @flow.step(retries=Retry(max_attempts=3, initial=0.01))
    async def flaky(ctx: StepContext, what: str) -> None:
        seen.append((what, ctx.attempt))
        if ctx.attempt < 2:
            raise ConnectionError("not yet")

    @flow.step
    async def broken(ctx: StepContext) -> None:
        seen.append("broken")
        raise ValueError("can't be undone")

    def plain(what: str) -> None:
        seen.append(what)

    @flow.workflow()
    async def body(ctx: FlowContext) -> int:
        ctx.on_rollback(plain, "first")
        await ctx.sleep(0)
        ctx.on_rollback(broken)
        ctx.on_rollback(flaky, "third")
        if end == "failure":
            raise RuntimeError("the body failed")
        if end == "cancel":
            await ctx.wait_signal("never")
        return 1

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        if end == "success":
            assert await flow.result(run_id, timeout=10) == 1
            assert seen == []
            return
        if end == "cancel":
            await waiting(sql)
            await flow.cancel(run_id)
        with pytest.raises(RunFailed) as failed:
            await flow.result(run_id, timeout=10)
    assert isinstance(failed.value, RunCancelled if end == "cancel" else RuntimeError)
    assert seen == [("third", 1), ("third", 2), "broken", "first"]
    (report,) = failed.value.rollback
    assert report["step"].endswith("broken")
    assert report["message"] == "can't be undone"
    assert any("can't be undone" in note for note in failed.value.__notes__)


async def test_compensations_survive_the_worker(flow: Flow, postgres, schema, serving, sql) -> None:
    """A worker that ends amid compensations: another goes on with those that are left."""
    seen: list[str] = []
    gate = asyncio.Event()

    def build(flow: Flow) -> Flow:
        @flow.step(name="undo")
        async def undo(ctx: StepContext, what: str) -> None:
            seen.append(what)
            if what == "second" and not gate.is_set():
                await asyncio.Event().wait()

        @flow.workflow(name="saga")
        async def saga(ctx: FlowContext) -> None:
            for what in ("first", "second", "third"):
                ctx.on_rollback(undo, what)
            raise RuntimeError("no")

        return flow

    async with serving(build(flow), drain=0):
        run_id = await flow.start("saga")
        await eventually(lambda: "second" in seen)
    gate.set()
    other = build(Flow(postgres.url, schema=schema))
    async with serving(other):
        with pytest.raises(RunFailed, match="no"):
            await other.result(run_id, timeout=10)
    assert seen == ["third", "second", "second", "first"]

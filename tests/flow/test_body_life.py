# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a body shows and sends, and its life beyond one journal: continue_as_new, patched."""

import asyncio
import logging

import pytest

from forktex_core.flow import (
    DefinitionError,
    Flow,
    FlowContext,
    Progress,
    RunFailed,
    RunNotFoundError,
    StepContext,
)
from tests.waiting import eventually

NOBODY = "00000000-0000-7000-8000-000000000000"


async def parked(sql, run_id) -> None:
    await eventually(
        lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE id = $1", run_id)
    )


async def test_published_values(flow: Flow, serving, sql) -> None:
    """The last value under a key is read from outside, exactly as it was published; a replay
    publishes nothing again.
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        await ctx.publish("state", "begun")
        await ctx.publish("state", {"z": 1, "a": [None]})
        await ctx.wait_signal("go")
        await ctx.publish("empty", None)

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await parked(sql, run_id)
        assert await flow.published(run_id, "state") == {"z": 1, "a": [None]}
        assert await flow.published(run_id, "other", default="none") == "none"
        await eventually(lambda: not flow._workers[0]._active)
        await sql.execute("UPDATE published SET value = '\"changed\"'")
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
        assert await flow.published(run_id, "state") == "changed"
        assert await flow.published(run_id, "empty", default=1) is None
        with pytest.raises(RunNotFoundError):
            await flow.published(NOBODY, "state")


async def test_progress_costs_next_to_nothing(flow: Flow, serving, sql) -> None:
    """Ten thousand reports of progress make a handful of statements, no journal entry, and the last
    one counts.
    """

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        for number in range(10_000):
            ctx.progress(number, 10_000, f"row {number}")
        await ctx.wait_signal("go")

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        shown = await eventually(lambda: flow.progress(run_id))
        assert shown == Progress(9999, 10_000, "row 9999")
        assert await sql.fetchval("SELECT count(*) FROM journal") == 0
        assert flow._workers[0]._journal.flushes == 0
        await eventually(lambda: not flow._workers[0]._active)
        await sql.execute("DELETE FROM published")
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
        assert await flow.progress(run_id) is None, "a replay reported progress"


async def test_a_body_sends_signals_exactly_once(flow: Flow, serving, sql) -> None:
    """A signal of one run to another is written with its entry: a replay sends none again, and one
    to a run that is gone is dropped.
    """

    @flow.workflow()
    async def receiver(ctx: FlowContext) -> list:
        got = []
        while (value := await ctx.wait_signal("n")) is not None:
            got.append(value)
        return got

    @flow.workflow()
    async def sender(ctx: FlowContext, target: str) -> None:
        await ctx.send_signal(target, "n", 1)
        await ctx.wait_signal("go")
        await ctx.gather(*(ctx.send_signal(target, "n", n) for n in (2, 3, None)))
        await ctx.send_signal(NOBODY, "n", 9)

    async with serving(flow, warm=0):
        target = await flow.start("receiver")
        run_id = await flow.start("sender", str(target))
        await parked(sql, run_id)
        await eventually(lambda: run_id not in flow._workers[0]._active)
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
        assert await flow.result(target, timeout=10) == [1, 2, 3]


async def test_names_of_the_engine_are_refused(flow: Flow, serving) -> None:
    """Signals and keys that begin with '$' can be neither sent nor waited for."""

    @flow.workflow()
    async def body(ctx: FlowContext, what: str) -> None:
        if what == "wait":
            await ctx.wait_signal("$cancel")
        elif what == "send":
            await ctx.send_signal(NOBODY, "$cancel")
        else:
            await ctx.publish("$progress", 1)

    async with serving(flow):
        for what in ("wait", "send", "publish"):
            with pytest.raises(RunFailed, match="the engine's"):
                await flow.run("body", what, timeout=10)
        with pytest.raises(DefinitionError, match="the engine's"):
            await flow.send_signal(NOBODY, "$cancel")


async def test_continue_as_new(flow: Flow, serving, sql) -> None:
    """The run goes on under its id with a new input and an empty journal; untaken signals and the
    wait for its result stay; idempotency keys never repeat.
    """
    keys: list[str] = []

    @flow.step
    async def step(ctx: StepContext) -> None:
        keys.append(ctx.idempotency_key)

    @flow.workflow()
    async def child(ctx: FlowContext, n: int) -> int:
        return n

    @flow.workflow()
    async def body(ctx: FlowContext, total: int) -> int:
        await step(ctx)
        total += await ctx.wait_signal("n")
        total += await ctx.run_child(child, 100)
        if total < 303:
            ctx.continue_as_new(total)
        return total

    async with flow:
        run_id = await flow.start("body", 0)
        for n in (1, 1, 1):
            await flow.send_signal(run_id, "n", n)
    async with serving(flow):
        assert await flow.result(run_id, timeout=10) == 303
    assert len(set(keys)) == len(keys) == 3
    assert await sql.fetchval("SELECT generation FROM run WHERE id = $1", run_id) == 2
    assert await sql.fetchval("SELECT count(*) FROM journal WHERE run_id = $1", run_id) == 4
    assert await sql.fetchval("SELECT count(*) FROM run") == 4


async def test_a_run_that_goes_on_for_ever_leaves_no_trail(flow: Flow, serving, sql) -> None:
    """What former generations took of the inbox is gone; what nobody took is not, and a second
    signal with the same key is still known as such.
    """

    @flow.workflow()
    async def body(ctx: FlowContext, left: int) -> list[int]:
        got = await ctx.wait_signal("n")
        if left:
            ctx.continue_as_new(left - 1)
        return [got, await ctx.wait_signal("n")]

    async with flow:
        run_id = await flow.start("body", 20)
        assert await flow.send_signal(run_id, "n", 0, idempotency_key="first")
        for number in range(1, 22):
            await flow.send_signal(run_id, "n", number)
    async with serving(flow):
        assert await flow.result(run_id, timeout=20) == [20, 21]
    assert await sql.fetchval("SELECT generation FROM run") == 20
    left = await sql.fetch("SELECT payload::text, key FROM signal ORDER BY no")
    assert [tuple(row) for row in left] == [("0", "first"), ("20", None), ("21", None)]


async def test_continue_as_new_with_what_does_not_fit(flow: Flow, serving) -> None:
    """A wrong input fails the run by name; a call in a branch is refused."""

    @flow.workflow()
    async def wrong(ctx: FlowContext, n: int) -> None:
        ctx.continue_as_new("many")

    @flow.workflow()
    async def branch(ctx: FlowContext) -> None:
        async def inner() -> None:
            ctx.continue_as_new()

        await ctx.gather(inner())

    async with serving(flow):
        with pytest.raises(RunFailed, match="the input of continue_as_new doesn't fit int"):
            await flow.run("wrong", 1, timeout=10)
        with pytest.raises(RunFailed, match="in a branch of the body"):
            await flow.run("branch", timeout=10)


async def test_patched(flow: Flow, serving, postgres, schema: str, sql) -> None:
    """A run that had gone past the change keeps the old way for good; one that gets there with the
    new code takes the new way, and stays on it; and the call can be dropped in the end.
    """

    def build(flow: Flow, generation: str) -> Flow:
        async def old() -> str:
            return "old"

        async def new() -> str:
            return "new"

        @flow.workflow(name="changing")
        async def body(ctx: FlowContext) -> list[str]:
            got = []
            for _ in range(2):
                await ctx.wait_signal("go")
                way = {"before": lambda: False, "during": lambda: ctx.patched("way")}
                got.append(await ctx.step(new if way.get(generation, lambda: True)() else old))
            await ctx.wait_signal("end")
            return got

        return flow

    async def go(flow: Flow, run_id, count: int) -> None:
        await flow.send_signal(run_id, "go")
        await eventually(
            lambda: sql.fetchval(
                "SELECT count(*) = $2 FROM journal WHERE kind = 'step' AND run_id = $1",
                run_id, count,
            )
        )  # fmt: skip

    before = build(flow, "before")
    async with serving(before):
        past, early = await before.start("changing"), await before.start("changing")
        await go(before, past, 1)
        await parked(sql, early)
    during = build(Flow(postgres.url, schema=schema), "during")
    async with serving(during, warm=0):
        await go(during, past, 2)
        await go(during, early, 1)
        await parked(sql, early)
    again = build(Flow(postgres.url, schema=schema), "during")
    async with serving(again, warm=0):
        await again.send_signal(past, "end")
        assert await again.result(past, timeout=10) == ["old", "old"]
        await go(again, early, 2)  # the new way was written down
    after = build(Flow(postgres.url, schema=schema), "after")
    async with serving(after):
        await after.send_signal(early, "end")
        assert await after.result(early, timeout=10) == ["new", "new"]


async def test_logger_is_silent_during_replay(flow: Flow, serving, sql, caplog) -> None:
    """What the body logs appears once, though the body ran twice."""
    caplog.set_level(logging.INFO, "forktex_core.flow.run")

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        await ctx.sleep(0.001)
        ctx.logger.info("said once")
        await ctx.wait_signal("go")
        ctx.logger.info("said last")

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await parked(sql, run_id)
        await eventually(lambda: not flow._workers[0]._active)
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
    said = [r.message for r in caplog.records if r.name == "forktex_core.flow.run"]
    assert said == ["said once", "said last"]


async def test_a_journal_that_goes_on_behind_the_end_is_a_mismatch(
    flow: Flow, serving, sql, postgres, schema: str
) -> None:
    """Code that ends where the journal holds more stops the run and names what it skips."""
    from forktex_core.flow import RunHalted

    async def work() -> int:
        return 1

    @flow.workflow(name="short")
    async def long(ctx: FlowContext) -> None:
        await ctx.step(work)
        await ctx.wait_signal("go")

    async with serving(flow):
        run_id = await flow.start("short")
        await parked(sql, run_id)
    other = Flow(postgres.url, schema=schema)

    @other.workflow(name="short")
    async def short(ctx: FlowContext) -> None: ...

    async with serving(other):
        await other.send_signal(run_id, "go")
        with pytest.raises(RunHalted, match=r"step '.*work' at 1, which the code no longer asks"):
            await other.result(run_id, timeout=10)


async def test_branches_left_alone_end_with_the_body(flow: Flow, serving, sql) -> None:
    """A task that nobody awaits is dropped at the body's end, with its step; nothing hangs."""
    left = asyncio.Event()

    @flow.step
    async def background(ctx: StepContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    @flow.workflow()
    async def body(ctx: FlowContext) -> int:
        asyncio.create_task(background(ctx))  # noqa: RUF006
        await ctx.sleep(0.01)
        return 1

    async with serving(flow):
        assert await flow.run("body", timeout=10) == 1
        await asyncio.wait_for(left.wait(), 10)

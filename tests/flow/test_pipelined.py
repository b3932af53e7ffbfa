# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""durability="pipelined": steps go on before their commit; what others can see waits for it
(trap 11).
"""

import asyncio
from collections import Counter

import pytest
from sqlalchemy import text

from forktex_core.flow import DefinitionError, Flow, FlowContext, StepContext
from tests.waiting import eventually


class HeldFlush:
    """The worker's real journal, whose flushes wait while the gate is shut."""

    def __init__(self, flow: Flow) -> None:
        journal = flow._workers[0]._journal
        self.gate = asyncio.Event()
        self.waiting = 0
        flush = journal._flush

        async def held(batch):
            self.waiting += 1
            await self.gate.wait()
            await flush(batch)

        journal._flush = held


async def ready(flow: Flow) -> None:
    await eventually(lambda: flow._workers and flow._workers[0].ready.is_set())


@pytest.mark.parametrize("durability", ["commit", "pipelined"])
async def test_steps_go_on_before_the_commit(flow: Flow, serving, sql, durability: str) -> None:
    """Pipelined, all steps run while not one is durable, and the run ends only when all are; by
    default the second step waits for the first one's commit.
    """
    ran: list[int] = []

    @flow.step
    async def step(ctx: StepContext, n: int) -> int:
        ran.append(n)
        return n

    @flow.workflow(durability=durability)
    async def body(ctx: FlowContext) -> int:
        return sum([await step(ctx, n) for n in range(50)])

    async with serving(flow):
        await ready(flow)
        held = HeldFlush(flow)
        run_id = await flow.start("body")
        await eventually(lambda: held.waiting)
        if durability == "pipelined":
            await eventually(lambda: len(ran) == 50)
            assert not flow._workers[0]._endings._finishes
        else:
            await asyncio.sleep(0)
            assert ran == [0]
        assert await sql.fetchval("SELECT count(*) FROM journal") == 0
        held.gate.set()
        assert await flow.result(run_id, timeout=10) == sum(range(50))
    assert await sql.fetchval("SELECT count(*) FROM journal") == 50
    with pytest.raises(DefinitionError, match="'commit' or 'pipelined'"):
        flow.workflow(name="w", durability="never")(body.fn)


@pytest.mark.parametrize("what", ["transaction", "send", "child", "park"])
async def test_what_others_see_waits_for_all_before_it(
    flow: Flow, serving, sql, schema: str, what: str
) -> None:
    """A transactional step, a send, a start and a park take effect only when all that the run was
    built on is durable.
    """

    @flow.step
    async def step(ctx: StepContext) -> int:
        return 1

    @flow.step(transactional=True)
    async def book(ctx: StepContext) -> None:
        await ctx.session.execute(text(f'INSERT INTO "{schema}".booking VALUES (1)'))

    @flow.workflow()
    async def other(ctx: FlowContext) -> None:
        await ctx.wait_signal("note")

    @flow.workflow(durability="pipelined")
    async def body(ctx: FlowContext, target: str) -> None:
        await step(ctx)
        await step(ctx)
        if what == "transaction":
            await book(ctx)
        elif what == "send":
            await ctx.send_signal(target, "note")
        elif what == "child":
            await ctx.start_child(other)
        await ctx.wait_signal("end")

    async with serving(flow):
        await sql.execute("CREATE TABLE booking (n int)")
        await ready(flow)
        target = await flow.start("other")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        effect = {
            "transaction": "SELECT count(*) = 1 FROM booking",
            "send": "SELECT count(*) = 1 FROM signal WHERE name = 'note'",
            "child": "SELECT count(*) = 1 FROM run WHERE parent_id IS NOT NULL",
            "park": "SELECT count(*) = 1 FROM run WHERE workflow = 'body' AND status = 'waiting'",
        }[what]
        held = HeldFlush(flow)
        run_id = await flow.start("body", str(target))
        await eventually(lambda: held.waiting)
        execution = flow._workers[0]._active[run_id]
        if what == "transaction":  # its body ran, and it stands before its commit
            await eventually(lambda: execution._barriers)
        else:
            await eventually(lambda: execution._appended >= (2 if what == "park" else 3))
        assert not await sql.fetchval(effect)
        held.gate.set()
        await eventually(lambda: sql.fetchval(effect))
        await flow.send_signal(run_id, "end")
        await flow.result(run_id, timeout=10)


async def test_a_crash_repeats_the_unflushed_tail_only(
    flow: Flow, serving, sql, postgres, schema: str
) -> None:
    """What was durable is not run again; what was not, is, once."""
    ran: Counter[int] = Counter()

    def build(flow: Flow) -> Flow:
        @flow.step(name="step")
        async def step(ctx: StepContext, n: int) -> int:
            ran[n] += 1
            return n

        @flow.workflow(name="body", durability="pipelined")
        async def body(ctx: FlowContext) -> int:
            total = 0
            for n in range(20):
                total += await step(ctx, n)
                if n == 9:
                    total += await ctx.wait_signal("go")
            return total

        return flow

    async with serving(build(flow), drain=0):
        await ready(flow)
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        held = HeldFlush(flow)
        await flow.send_signal(run_id, "go", 0)
        await eventually(lambda: len(ran) == 20)
        # Ten steps, and the signal: the statement that woke the run took it.
        assert await sql.fetchval("SELECT count(*) FROM journal") == 11
        assert held.waiting
    second = build(Flow(postgres.url, schema=schema))
    async with serving(second):
        assert await second.result(run_id, timeout=10) == sum(range(20))
    assert ran == {n: 1 if n < 10 else 2 for n in range(20)}


async def test_an_effect_holds_up_what_follows(flow: Flow, serving, sql) -> None:
    """A pipelined body goes on after a send only when the send is durable, and so is all before it:
    what it does next may rely on others having been told.
    """
    ran: list[str] = []

    @flow.step
    async def step(ctx: StepContext, name: str) -> None:
        ran.append(name)

    @flow.workflow()
    async def other(ctx: FlowContext) -> None:
        await ctx.wait_signal("note")

    @flow.workflow(durability="pipelined")
    async def body(ctx: FlowContext, target: str) -> None:
        await step(ctx, "before")
        await ctx.send_signal(target, "note")
        await step(ctx, "after")

    async with serving(flow):
        await ready(flow)
        target = await flow.start("other")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        held = HeldFlush(flow)
        run_id = await flow.start("body", str(target))
        await eventually(lambda: held.waiting)
        await eventually(lambda: flow._workers[0]._active[run_id]._appended == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert ran == ["before"]
        held.gate.set()
        await flow.result(run_id, timeout=10)
    assert ran == ["before", "after"]

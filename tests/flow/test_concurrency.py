# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""select, gather and map: what they return, what they release, and that a released wait eats
nothing.
"""

import asyncio

import pytest

from forktex_core.flow import Flow, FlowContext, RunFailed, StepContext
from tests.waiting import eventually


async def test_select_returns_the_first_by_name(flow: Flow, serving, sql) -> None:
    """Signals, timers, children, steps and coroutines race; the name of the winner comes with its
    value, and an error of the winner is raised.
    """

    @flow.step
    async def stuck(ctx: StepContext) -> None:
        await asyncio.Event().wait()

    async def quick() -> int:
        return 7

    async def fails() -> None:
        raise KeyError("lost")

    @flow.workflow()
    async def child(ctx: FlowContext, n: int) -> int:
        return n

    @flow.workflow()
    async def body(ctx: FlowContext) -> list:
        won = [
            await ctx.select(s=ctx.wait_signal("a", int), t=ctx.sleep(3600), never=stuck(ctx)),
            await ctx.select(s=ctx.wait_signal("never"), t=ctx.sleep(0.01)),
            await ctx.select(s=ctx.wait_signal("never"), q=ctx.step(quick)),
            await ctx.select(t=ctx.sleep(3600), c=ctx.run_child(child, 5)),
        ]
        try:
            await ctx.select(f=ctx.step(fails), t=ctx.sleep(3600))
        except KeyError:
            won.append(["f", "KeyError"])
        handle = await ctx.start_child(child, 6)
        won.append(await ctx.select(c=handle.result(), t=ctx.sleep(3600)))
        return won

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await flow.send_signal(run_id, "a", 1)
        assert await flow.result(run_id, timeout=10) == [
            ["s", 1], ["t", None], ["q", 7], ["c", 5], ["f", "KeyError"], ["c", 6],
        ]  # fmt: skip


@pytest.mark.parametrize("form", ["select", "wait"])
async def test_a_released_wait_eats_no_signal(flow: Flow, serving, sql, form: str) -> None:
    """A signal that came just as another racer won is there for the next wait, in its order, also
    after a replay.
    """
    gate = asyncio.Event()

    @flow.step
    async def both(ctx: StepContext) -> int:
        await gate.wait()
        return 1

    @flow.workflow()
    async def body(ctx: FlowContext) -> list:
        if form == "select":
            first = await ctx.select(step=both(ctx), signal=ctx.wait_signal("s"))
        else:
            # The step's end and the signal arrive together, the step first.
            wait = asyncio.create_task(ctx.wait_signal("s"))
            await asyncio.wait(
                [wait, asyncio.create_task(both(ctx))], return_when="FIRST_COMPLETED"
            )
            first = ["step", wait.cancel()]
        await ctx.wait_signal("go")
        return [first, await ctx.wait_signal("s"), await ctx.wait_signal("s")]

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: flow._workers and flow._workers[0]._active)
        execution = next(iter(flow._workers[0]._active.values()))
        await eventually(lambda: execution.steps.running)
        # Both completions are appended in one turn: neither is delivered before the other is made.
        hold = flow._workers[0]._journal
        holding, appended = [], hold.append
        hold.append = holding.append
        gate.set()
        await eventually(lambda: len(holding) == 1)
        await flow.send_signal(run_id, "s", "first")
        await eventually(lambda: len(holding) == 2)
        hold.append = appended
        for item in holding:
            appended(item)
        await flow.send_signal(run_id, "s", "second")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await flow.send_signal(run_id, "go")
        first, *rest = await flow.result(run_id, timeout=10)
    assert first[0] == "step"
    assert rest == ["first", "second"]
    kinds = await sql.fetch("SELECT kind, name FROM journal ORDER BY seq")
    assert [r["name"] for r in kinds if r["kind"] == "signal"] == ["s", "go", "s", "s"]


async def test_gather_and_map(flow: Flow, serving) -> None:
    """Results come in the order given, no more than the limit run at once, and the first failure
    cancels the rest and is raised.
    """
    running, most = 0, 0
    interrupted: list[int] = []

    @flow.step
    async def work(ctx: StepContext, n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - n % 5))
        running -= 1
        return n * n

    @flow.step
    async def third_fails(ctx: StepContext, n: int) -> None:
        if n == 3:
            raise ValueError("three")
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.append(n)

    def plain(n: int) -> int:
        return -n

    @flow.workflow()
    async def child(ctx: FlowContext, n: int) -> str:
        return f"child {n}"

    @flow.workflow()
    async def body(ctx: FlowContext) -> list:
        got = [
            await ctx.map(work, range(20), limit=3),
            await ctx.gather(work(ctx, 1), ctx.sleep(0.001), ctx.step(plain, 2)),
            await ctx.map(plain, [1, 2]),
            await ctx.map(child, [1, 2]),
            await ctx.gather(),
            await ctx.map(work, [], limit=2),
        ]
        try:
            await ctx.map(third_fails, range(5))
        except ValueError as error:
            got.append(str(error))
        return got

    @flow.workflow()
    async def wrong(ctx: FlowContext, what: str) -> None:
        await (ctx.map(work, [1], limit=0) if what == "limit" else ctx.select())

    async with serving(flow):
        assert await flow.run("body", timeout=10) == [
            [n * n for n in range(20)], [1, None, -2], [-1, -2], ["child 1", "child 2"], [], [],
            "three",
        ]  # fmt: skip
        with pytest.raises(RunFailed, match="limit must be at least 1"):
            await flow.run("wrong", "limit", timeout=10)
        with pytest.raises(RunFailed, match="at least one awaitable"):
            await flow.run("wrong", "select", timeout=10)
    assert most == 3
    assert sorted(interrupted) == [0, 1, 2, 4]


async def test_completions_are_delivered_in_the_order_of_their_numbers(
    flow: Flow, serving, sql
) -> None:
    """An entry whose commit is not acknowledged yet holds back those behind it: the body sees live
    what a replay would show it, though acknowledgements come out of order.
    """
    seen: list[str] = []

    @flow.step
    async def quick(ctx: StepContext, what: str) -> str:
        return what

    @flow.workflow()
    async def body(ctx: FlowContext) -> list[str]:
        async def branch(what: str) -> None:
            seen.append(await quick(ctx, what))

        await asyncio.gather(*(branch(w) for w in "abcd"))
        await ctx.wait_signal("go")
        return list(seen)

    async with serving(flow, warm=0):

        class Reversed(list):
            """A batch whose acknowledgements come last first."""

            def __iter__(self):
                return reversed(list(super().__iter__()))

        await eventually(lambda: flow._workers)
        journal = flow._workers[0]._journal
        flush = journal._flush
        journal._flush = lambda batch: flush(Reversed(batch))
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        live, seen = seen[:], []
        await flow.send_signal(run_id, "go")
        assert await flow.result(run_id, timeout=10) == live == list("abcd")


async def test_ten_thousand_buffered_signals(flow: Flow, serving, sql) -> None:
    """A full inbox is worked off in order, each signal looked at a few times."""
    many = 10_000

    @flow.workflow()
    async def body(ctx: FlowContext) -> bool:
        got = await ctx.gather(*(ctx.wait_signal("n") for _ in range(many)))
        return got == list(range(1, many + 1))

    async with flow:
        run_id = await flow.start("body")
        await sql.execute(
            "INSERT INTO signal (run_id, no, name, payload)"
            " SELECT $1, n, 'n', to_json(n) FROM generate_series(1, $2::int) n",
            run_id, many,
        )  # fmt: skip
        await sql.execute("UPDATE run SET signal_seq = $1", many)
    async with serving(flow):
        assert await flow.result(run_id, timeout=30)

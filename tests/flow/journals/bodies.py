# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The bodies whose journals are stored beside this file. They never change: a new one gets a new
name, and a journal of its own by ``python -m tests.flow.journals.record``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from forktex_core.flow import Flow, FlowContext, Graph, Retry, StepContext, StepFailed
from tests.flow.journals import more_bodies


@dataclass
class Money:
    """A value with a type."""

    amount: Decimal
    due: datetime


class BrokenError(Exception):
    """A failure."""


# For each workflow: its input, and what is sent to it while it runs.
SCRIPTS: dict[str, tuple[Any, Callable[[Flow, UUID], Awaitable[None]] | None]] = {}


def build(url: str, schema: str, *, recording: bool = False) -> Flow:
    """Return a Flow with all bodies; see more_bodies.register()."""
    flow = Flow(url, schema=schema)
    _steps(flow)
    _failures(flow)
    _branches(flow)
    _signals(flow)
    _graph(flow)
    more_bodies.register(flow, SCRIPTS, recording=recording)
    return flow


def _steps(flow: Flow) -> None:
    @flow.step(name="double")
    async def double(ctx: StepContext, n: int) -> int:
        return 2 * n

    @flow.step(name="charge")
    async def charge(ctx: StepContext, money: Money) -> Money:
        return Money(money.amount + 1, money.due + timedelta(days=1))

    @flow.workflow(name="steps")
    async def steps(ctx: FlowContext, n: int) -> int:
        for _ in range(5):
            n = await double(ctx, n)
        return n + await ctx.step(len, "four")

    @flow.workflow(name="types")
    async def types(ctx: FlowContext, money: Money) -> Money:
        money = await charge(ctx, money)
        assert money.due.tzinfo is not None
        return money

    SCRIPTS["steps"] = (3, None)
    SCRIPTS["types"] = (Money(Decimal("9.90"), datetime(2026, 1, 1, tzinfo=UTC)), None)


def _failures(flow: Flow) -> None:
    @flow.step(name="flaky", retries=Retry(max_attempts=3, initial=0.01))
    async def flaky(ctx: StepContext) -> int:
        if ctx.attempt < 3:
            raise BrokenError("not yet")
        return ctx.attempt

    @flow.step(name="broken")
    async def broken(ctx: StepContext) -> None:
        raise BrokenError("never")

    @flow.workflow(name="retries")
    async def retries(ctx: FlowContext) -> list:
        attempts = await flaky(ctx)
        try:
            await broken(ctx)
        except StepFailed as error:
            return [attempts, error.message]

    @flow.workflow(name="fails")
    async def fails(ctx: FlowContext) -> None:
        await broken(ctx)

    SCRIPTS["retries"] = SCRIPTS["fails"] = (None, None)


def _branches(flow: Flow) -> None:
    @flow.step(name="later")
    async def later(ctx: StepContext, n: int, wait: float) -> int:
        await asyncio.sleep(wait)
        return n

    @flow.workflow(name="branches")
    async def branches(ctx: FlowContext) -> list:
        gathered = await asyncio.gather(*(later(ctx, n, 0.03 - n / 100) for n in range(3)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_nested(ctx, later, n)) for n in range(2)]
        return [gathered, [t.result() for t in tasks]]

    @flow.workflow(name="race")
    async def race(ctx: FlowContext) -> int:
        first = asyncio.ensure_future(later(ctx, 1, 0.05))
        second = asyncio.ensure_future(later(ctx, 2, 0.0))
        done, late = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return done.pop().result()

    @flow.workflow(name="timers")
    async def timers(ctx: FlowContext) -> list:
        await ctx.sleep(0.01)
        log = []
        try:
            await asyncio.wait_for(ctx.wait_signal("never"), 0.02)
        except TimeoutError:
            log.append("wait_for")
        try:
            async with asyncio.timeout(0.02):
                await later(ctx, 1, 60)
        except TimeoutError:
            log.append("timeout")
        try:
            await ctx.wait_signal("never", timeout=0.02)
        except TimeoutError:
            log.append("signal")
        return log

    for name in ("branches", "race", "timers"):
        SCRIPTS[name] = (None, None)


async def _nested(ctx: FlowContext, later: Any, n: int) -> list:
    return await asyncio.gather(later(ctx, n, 0.01), asyncio.sleep(0.01, n), later(ctx, -n, 0))


def _signals(flow: Flow) -> None:
    @flow.workflow(name="signals")
    async def signals(ctx: FlowContext) -> list:
        taken = [await ctx.wait_signal("one"), await ctx.wait_signal("one")]
        return [*taken, *(await ctx.wait_any_signal(["two", "three"]))]

    @flow.workflow(name="chance")
    async def chance(ctx: FlowContext) -> list:
        drawn = ctx.random().random()
        await ctx.sleep(0.01)
        return [drawn, str(ctx.uuid4()), ctx.now().isoformat(), await ctx.step(str, drawn)]

    async def send(flow: Flow, run_id: UUID) -> None:
        for name, payload in (("one", {"b": 1, "a": 2}), ("three", None), ("one", [1.5, "é"])):
            await flow.send_signal(run_id, name, payload)

    SCRIPTS["signals"] = (None, send)
    SCRIPTS["chance"] = (None, None)


def _graph(flow: Flow) -> None:
    graph = Graph("graph", initial="count")

    @graph.state("count")
    async def count(ctx: FlowContext, payload: dict) -> dict:
        return {**payload, "n": await ctx.step(abs, payload["n"] + 1)}

    @graph.state("ask", manual=True)
    async def ask(ctx: FlowContext, payload: dict) -> dict:
        return payload

    @graph.state("done", terminal=True)
    async def done(ctx: FlowContext, payload: dict) -> dict:
        return payload

    graph.transition("count", "ask", when=lambda payload: payload["n"] >= 3)
    graph.transition("count", "count")
    graph.transition("ask", "done", on="approve", when=lambda payload: payload.get("by") == "boss")
    flow.register_graph(graph)

    async def send(flow: Flow, run_id: UUID) -> None:
        await flow.send_signal(run_id, "approve", {"by": "intern"})
        await flow.send_signal(run_id, "approve", {"by": "boss"})

    SCRIPTS["graph"] = ({"n": 0}, send)

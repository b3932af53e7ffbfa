# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The workflows that are crashed: small ones, which between them use everything that writes.

A program is started by nothing but its input, and its signals are sent beforehand, so its result
and the statements that its worker sends are the same every time. Steps leave their effect in
``Effects``, which stands for the outside world: it outlives the worker.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from forktex_core.flow import Flow, FlowContext, Retry, StepContext
from forktex_core.flow.store.sql import quote_identifier
from tests.crash.graphs import REGIONS, register_graphs


class Effects:
    """What steps did to the world: (run, step's key) in order. With a file, across processes."""

    def __init__(self, file: Path | None = None, alive: Callable[[], bool] = lambda: True) -> None:
        self._file, self.alive = file, alive
        self._list: list[tuple[str, str]] = []

    def note(self, ctx: StepContext) -> None:
        """Leave an effect, if there is still somebody to leave it."""
        if not self.alive():
            return
        run, _, key = ctx.idempotency_key.partition(":")
        self._list.append((run, key))
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps([run, key]) + "\n")

    def all(self) -> list[tuple[str, str]]:
        """Return the effects so far."""
        if self._file is None:
            return list(self._list)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Program:
    """A workflow to crash: its input, the signals sent before it runs, and its result."""

    workflow: str
    input: Any
    result: Any
    signals: tuple[tuple[str, Any], ...] = ()


PROGRAMS = {
    "chain": Program("chain", 4, 6),
    "fan": Program("fan", 5, 10),
    "signals": Program("signals", None, [1, 2, "late"], (("go", 1), ("go", 2))),
    "retried": Program("retried", None, "third time"),
    "failing": Program("failing", None, "caught always"),
    "sleeper": Program("sleeper", None, 2),
    "race": Program("race", None, ["fast", 1]),
    "select": Program("select", None, ["go", 7, 8], (("go", 7), ("go", 8))),
    "family": Program("family", 3, [0, 1, 2]),
    "saga": Program("saga", None, "rolled back"),
    "again": Program("again", 3, 0),
    "ledger": Program("ledger", 3, 3),
    "told": Program("told", None, "done"),
    "cycle": Program("cycle", {"n": 0}, {"n": 5, "ok": True}, (("go", {"ok": True}),)),
    "regions": Program("regions", {"n": 1}, REGIONS, (("right", {"r": 1}),)),
}


# What transactional steps write to: a line twice would be an effect twice.
LEDGER = "CREATE TABLE IF NOT EXISTS {schema}.ledger (run uuid NOT NULL, number integer NOT NULL)"


def register(flow: Flow, effects: Effects) -> None:
    """Give a Flow all programs."""

    @flow.step
    async def effect(ctx: StepContext, number: int) -> int:
        effects.note(ctx)
        return number

    _register_steps_only(flow, effect)
    _register_failures(flow, effects, effect)
    _register_waits(flow, effect)
    _register_kin(flow, effect)
    _register_transactions(flow, effects)
    register_graphs(flow, effect)


def _register_failures(flow: Flow, effects: Effects, effect: Any) -> None:
    @flow.step(retries=Retry(max_attempts=3, initial=0.001, jitter=0))
    async def flaky(ctx: StepContext) -> str:
        effects.note(ctx)
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return "third time"

    @flow.step
    async def broken(ctx: StepContext) -> None:
        effects.note(ctx)
        raise ValueError("always")

    @flow.workflow(name="retried")
    async def retried(ctx: FlowContext) -> str:
        return await flaky(ctx)

    @flow.workflow(name="failing")
    async def failing(ctx: FlowContext) -> str:
        try:
            await broken(ctx)
        except ValueError as error:
            await effect(ctx, 1)
            return f"caught {error}"
        return "not reached"


def _register_steps_only(flow: Flow, effect: Any) -> None:
    @flow.workflow(name="chain")
    async def chain(ctx: FlowContext, steps: int) -> int:
        return sum([await effect(ctx, n) for n in range(steps)])

    @flow.workflow(name="fan")
    async def fan(ctx: FlowContext, width: int) -> int:
        async def branch(n: int) -> int:
            return await effect(ctx, await effect(ctx, n))

        return sum(await asyncio.gather(*(branch(n) for n in range(width))))


def _register_waits(flow: Flow, effect: Any) -> None:
    @flow.workflow(name="signals")
    async def signals(ctx: FlowContext) -> list[Any]:
        got: list[Any] = [await ctx.wait_signal("go")]
        await effect(ctx, 1)
        got.append(await ctx.wait_signal("go"))
        try:
            await ctx.wait_signal("go", timeout=0.05)
        except TimeoutError:
            got.append("late")
        return got

    @flow.workflow(name="sleeper")
    async def sleeper(ctx: FlowContext) -> int:
        total = await effect(ctx, 1)
        await ctx.sleep(0.3)  # longer than a worker holds a claim: the run parks
        return total + await effect(ctx, 1)

    @flow.workflow(name="race")
    async def race(ctx: FlowContext) -> list[Any]:
        slow = asyncio.create_task(ctx.wait_signal("never"))
        fast = asyncio.create_task(effect(ctx, 1))
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        slow.cancel()
        return ["fast" if fast in done else "slow", await fast]

    @flow.workflow(name="select")
    async def select(ctx: FlowContext) -> list[Any]:
        name, value = await ctx.select(go=ctx.wait_signal("go"), never=ctx.sleep(3600))
        await effect(ctx, 1)
        return [name, value, await ctx.wait_signal("go")]


def _register_kin(flow: Flow, effect: Any) -> None:
    @flow.workflow(name="child")
    async def child(ctx: FlowContext, number: int) -> int:
        return await effect(ctx, number)

    @flow.workflow(name="family")
    async def family(ctx: FlowContext, size: int) -> list[int]:
        handles = [await ctx.start_child(child, n) for n in range(size)]
        return [await handle.result() for handle in handles]

    @flow.workflow(name="compensated")
    async def compensated(ctx: FlowContext) -> None:
        await effect(ctx, 1)
        ctx.on_rollback(_nothing, 1)
        await effect(ctx, 2)
        ctx.on_rollback(_nothing, 2)
        raise ValueError("no further")

    @flow.workflow(name="saga")
    async def saga(ctx: FlowContext) -> str:
        try:
            await ctx.run_child(compensated)
        except ValueError:
            return "rolled back"
        return "not reached"

    @flow.workflow(name="again")
    async def again(ctx: FlowContext, left: int) -> int:
        await effect(ctx, left)
        if left:
            ctx.continue_as_new(left - 1)
        return left


async def _nothing(number: int) -> int:
    return number


def _register_transactions(flow: Flow, effects: Effects) -> None:
    insert = text(f"INSERT INTO {quote_identifier(flow.schema)}.ledger VALUES (:run, :number)")

    @flow.step(transactional=True)
    async def book(ctx: StepContext, number: int) -> int:
        line = {"run": str(ctx.run_id), "number": number}
        await ctx.session.execute(insert, line)
        effects.note(ctx)
        return number

    @flow.step(transactional=True)
    async def tell(ctx: StepContext) -> int:
        ctx.send_signal(ctx.run_id, "told", "done")
        effects.note(ctx)
        return 1

    @flow.workflow(name="ledger")
    async def ledger(ctx: FlowContext, lines: int) -> int:
        return len(await asyncio.gather(*(book(ctx, n) for n in range(lines))))

    @flow.workflow(name="told")
    async def told(ctx: FlowContext) -> str:
        await tell(ctx)
        return await ctx.wait_signal("told", str)  # type: ignore[no-any-return]

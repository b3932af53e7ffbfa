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

from forktex_core.flow import Flow, FlowContext, Retry, StepContext


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
}


def register(flow: Flow, effects: Effects) -> None:
    """Give a Flow all programs."""

    @flow.step
    async def effect(ctx: StepContext, number: int) -> int:
        effects.note(ctx)
        return number

    _register_steps_only(flow, effect)
    _register_failures(flow, effects, effect)
    _register_waits(flow, effect)


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

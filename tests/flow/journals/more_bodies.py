# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""More bodies whose journals are stored, for what bodies.py does not use. They never change
either.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from sqlalchemy import text

from forktex_core.flow import ChildHandle, Flow, FlowContext, RunFailed, StepContext

type Script = tuple[Any, Callable[[Flow, UUID], Awaitable[None]] | None]


def register(flow: Flow, scripts: dict[str, Script], *, recording: bool) -> None:
    """Give a Flow these bodies. While ``recording``, those whose code has changed since are as they
    were then.
    """

    @flow.step(name="note")
    async def note(ctx: StepContext, word: str) -> str:
        return word

    _children(flow, note)
    _races(flow, note)
    _transactions(flow)
    _changes(flow, note, recording=recording)
    _ends(flow, note)

    async def cancel(flow: Flow, run_id: UUID) -> None:
        while not await flow.published(run_id, "ready"):
            await asyncio.sleep(0.01)
        await flow.cancel(run_id, "enough")

    async def let_go(flow: Flow, run_id: UUID) -> None:
        for number in range(3):
            await flow.send_signal(run_id, "go", number)

    scripts["children"] = ([1, 2, 3], None)
    scripts["select"] = (None, let_go)
    scripts["booking"] = (2, None)
    scripts["patched"] = scripts["unpatched"] = (None, None)
    scripts["again"] = (2, None)
    scripts["rollback"] = (None, None)
    scripts["cancelled"] = (None, cancel)
    scripts["shows"] = (None, None)


def _children(flow: Flow, note: Any) -> None:
    @flow.workflow(name="child")
    async def child(ctx: FlowContext, n: int) -> int:
        if n > 2:
            raise ValueError(f"{n} is too many")
        return int(await note(ctx, str(n)))

    @flow.workflow(name="children")
    async def children(ctx: FlowContext, numbers: list[int]) -> list:
        handles: list[ChildHandle[int]] = [
            await ctx.start_child(child, n, parent_close="abandon") for n in numbers
        ]
        ends = [await handle.result() for handle in reversed(handles[:2])]
        try:
            await handles[2].result()
        except RunFailed as error:
            ends.append(error.message)
        return [*ends, await ctx.run_child(child, 1), await ctx.map(child, [2, 1])]


def _races(flow: Flow, note: Any) -> None:
    @flow.workflow(name="select")
    async def select(ctx: FlowContext) -> list:
        first = await ctx.select(go=ctx.wait_signal("go"), late=ctx.sleep(3600))
        second = await ctx.select(never=ctx.wait_signal("never"), soon=ctx.sleep(0.01))
        third = await ctx.select(never=ctx.wait_signal("never"), step=note(ctx, "quick"))
        return [first, second, third, await ctx.wait_signal("go"), await ctx.wait_signal("go")]


def _transactions(flow: Flow) -> None:
    @flow.step(name="book", transactional=True)
    async def book(ctx: StepContext, run_id: str, number: int) -> int:
        await ctx.session.execute(text("SELECT 1"))
        ctx.send_signal(UUID(run_id), "booked", number)
        return number

    @flow.workflow(name="booking")
    async def booking(ctx: FlowContext, lines: int) -> list:
        booked = await ctx.gather(*(book(ctx, str(ctx.run_id), n) for n in range(lines)))
        return [booked, sorted([await ctx.wait_signal("booked") for _ in range(lines)])]


def _changes(flow: Flow, note: Any, *, recording: bool) -> None:
    @flow.workflow(name="patched")
    async def patched(ctx: FlowContext) -> list:
        words = [await note(ctx, "first")]
        if ctx.patched("a second word"):
            words.append(await note(ctx, "second"))
        return words

    @flow.workflow(name="unpatched")
    async def unpatched(ctx: FlowContext) -> list:
        words = [await note(ctx, "first")]
        if not recording and ctx.patched("a second word"):
            words.append(await note(ctx, "second"))
        return [*words, await note(ctx, "last")]


def _ends(flow: Flow, note: Any) -> None:
    @flow.workflow(name="again")
    async def again(ctx: FlowContext, left: int) -> str:
        await note(ctx, f"{left} left")
        if left:
            ctx.continue_as_new(left - 1)
        return "at the end"

    @flow.workflow(name="rollback")
    async def rollback(ctx: FlowContext) -> None:
        ctx.on_rollback(note.fn, None, "undo one")
        await note(ctx, "one")
        ctx.on_rollback(note, "undo two")
        await note(ctx, "two")
        raise ValueError("no further")

    @flow.workflow(name="cancelled")
    async def cancelled(ctx: FlowContext) -> None:
        ctx.on_rollback(note, "undone")
        try:
            await ctx.publish("ready", True)
            await ctx.wait_signal("never")
        finally:
            await note(ctx, "cleaned up")

    @flow.workflow(name="shows")
    async def shows(ctx: FlowContext) -> str:
        ctx.progress(1, 2)
        await ctx.publish("half", {"way": True})
        await ctx.send_signal(ctx.run_id, "self", "hello")
        return await ctx.wait_signal("self")

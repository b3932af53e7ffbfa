# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Options of steps, per call, and moments to sleep until."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from forktex_core.flow import Flow, FlowContext, Retry, RunFailed, StepContext, StepTimeout
from tests.waiting import eventually


async def test_a_deadline_spans_all_attempts(flow: Flow, serving, sql) -> None:
    """Retries without limit end when the next one would begin after the deadline; an attempt that
    hangs ends at it.
    """
    attempts: list[int] = []

    @flow.step(retries=Retry(max_attempts=None, initial=0.02, backoff=1), deadline=0.3)
    async def never_there(ctx: StepContext) -> None:
        attempts.append(ctx.attempt)
        raise ConnectionError("not there")

    @flow.step(retries=Retry(max_attempts=None, initial=0.01), deadline=timedelta(seconds=0.1))
    async def hangs(ctx: StepContext) -> None:
        await asyncio.Event().wait()

    @flow.workflow()
    async def body(ctx: FlowContext) -> list[str]:
        caught = []
        for step in (never_there, hangs):
            try:
                await step(ctx)
            except (ConnectionError, StepTimeout) as error:
                caught.append(str(error))
        return caught

    async with serving(flow):
        first, second = await flow.run("body", timeout=10)
    assert first == "not there"
    assert "did not finish within" in second
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(attempts) > 1


async def test_options_for_one_call(flow: Flow, serving, sql) -> None:
    """options() changes name, retries and limits for that call alone; retry_on and give_up_on
    decide by type.
    """
    attempts: list[str] = []

    @flow.step(retries=Retry(max_attempts=3, initial=0.001, give_up_on=PermissionError))
    async def work(ctx: StepContext, error: str) -> None:
        attempts.append(f"{ctx.name} {error} {ctx.attempt}")
        raise {"os": OSError, "permission": PermissionError, "value": ValueError}[error](error)

    only_os = Retry(max_attempts=2, initial=0.001, retry_on=OSError)
    named = work.options(name="named", retries=only_os)

    @flow.workflow()
    async def body(ctx: FlowContext) -> None:
        for step, error in ((work, "permission"), (named, "os"), (named, "value"), (work, "value")):
            with pytest.raises((OSError, ValueError)):
                await step(ctx, error)

    async with serving(flow):
        await flow.run("body", timeout=10)
    seen = [a.removeprefix(f"{work.name} ") for a in attempts]
    assert seen == [
        "permission 1",
        "named os 1", "named os 2", "named value 1",
        "value 1", "value 2", "value 3",
    ]  # fmt: skip


async def test_plain_functions_run_in_threads(flow: Flow, serving) -> None:
    """A def step doesn't hold the worker up, and gets its context like any other."""
    gate = threading.Event()

    @flow.step
    def slow(ctx: StepContext) -> str:
        assert gate.wait(10)
        return f"{ctx.attempt} {threading.current_thread() is threading.main_thread()}"

    @flow.step
    async def opens(ctx: StepContext) -> None:
        gate.set()

    @flow.workflow()
    async def body(ctx: FlowContext) -> str:
        return (await ctx.gather(slow(ctx), opens(ctx)))[0]

    async with serving(flow):
        assert await flow.run("body", timeout=10) == "1 False"


async def test_sleep_until(flow: Flow, serving, sql) -> None:
    """A moment years away parks the run until then; one that is past costs nothing; one without a
    time zone is refused.
    """

    @flow.workflow()
    async def body(ctx: FlowContext, until: str) -> str:
        await ctx.sleep_until(datetime.fromisoformat(until))
        return "past"

    far = datetime(2060, 1, 1, tzinfo=UTC)
    async with serving(flow):
        run_id = await flow.start("body", far.isoformat())
        assert await flow.run("body", "2000-01-01T00:00:00+00:00", timeout=10) == "past"
        with pytest.raises(RunFailed, match="needs a time zone"):
            await flow.run("body", "2060-01-01T00:00:00", timeout=10)
        due = await eventually(
            lambda: sql.fetchval(
                "SELECT due_at FROM run WHERE id = $1 AND status = 'waiting'", run_id
            )
        )
    assert abs(due - far) < timedelta(milliseconds=1)

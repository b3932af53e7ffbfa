# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a body may do, on a real worker."""

import asyncio
import sys
import types
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from forktex_core.flow import Flow, PayloadError, Retry, RunFailed, StepFailed, StepTimeout
from tests.waiting import eventually


class Order(BaseModel):
    """An input with a type."""

    id: int
    due: datetime


class DeclinedError(Exception):
    """A failure of the domain."""


@pytest.fixture(autouse=True)
def _importable() -> None:
    # pytest's importlib mode leaves test modules out of sys.modules under their own name.
    sys.modules.setdefault(__name__, types.ModuleType(__name__)).__dict__.update(globals())


async def test_concurrency_of_every_kind(flow: Flow, serving) -> None:
    """gather, TaskGroup, wait_for, timeout and as-they-come waits work in a body, on durable
    timers.
    """

    @flow.step
    async def double(ctx, n: int) -> int:
        return 2 * n

    @flow.workflow()
    async def body(ctx) -> dict:
        gathered = await asyncio.gather(*(double(ctx, n) for n in range(3)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(ctx, n)) for n in range(3)]
        try:
            await asyncio.wait_for(ctx.wait_signal("never"), 0.02)
        except TimeoutError:
            gathered.append(-1)
        try:
            async with asyncio.timeout(0.02):
                await asyncio.Event().wait()
        except TimeoutError:
            gathered.append(-2)
        slow = asyncio.create_task(asyncio.sleep(60))
        fast = asyncio.create_task(double(ctx, 21))
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        return {
            "gathered": gathered,
            "group": [t.result() for t in tasks],
            "first": done.pop().result(),
        }

    async with serving(flow):
        assert await flow.run("body", timeout=10) == {
            "gathered": [0, 2, 4, -1, -2], "group": [0, 2, 4], "first": 42,
        }  # fmt: skip


async def test_values_keep_their_types(flow: Flow, serving) -> None:
    """Inputs, results and outputs come back in the type that the annotations name."""

    @flow.step
    async def later(ctx, order: Order) -> Order:
        return order.model_copy(update={"due": order.due + timedelta(days=1)})

    @flow.workflow()
    async def postpone(ctx, order: Order) -> Order:
        assert isinstance(order, Order)
        moved = await later(ctx, order)
        assert isinstance(moved, Order)
        return moved

    due = datetime(2026, 1, 1, tzinfo=UTC)
    async with serving(flow):
        for given in (Order(id=1, due=due), {"id": 1, "due": due.isoformat()}):
            assert await flow.run("postpone", given, timeout=10) == Order(
                id=1, due=due + timedelta(days=1)
            )


async def test_step_failure_keeps_type_message_and_traceback(flow: Flow, serving) -> None:
    """A failed step raises StepFailed that is also of the original type; a failed run likewise."""

    caught: list[StepFailed] = []

    @flow.step
    async def pay(ctx) -> None:
        raise DeclinedError("no funds")

    @flow.workflow()
    async def order(ctx) -> str:
        try:
            await pay(ctx)
        except StepFailed as error:
            caught.append(error)
            raise
        return "unreachable"

    async with serving(flow):
        with pytest.raises(RunFailed, match="no funds") as failed:
            await flow.run("order", timeout=10)
    assert isinstance(failed.value, DeclinedError)
    assert failed.value.type_name.endswith("DeclinedError")
    assert isinstance(caught[0], DeclinedError)
    assert "raise DeclinedError" in caught[0].traceback_text


async def test_unserialisable_errors_and_results_end_the_step(flow: Flow, serving) -> None:
    """An exception whose str() fails, a result that JSON can't carry and one with a NUL in an error
    hang nothing.
    """

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def broken() -> None:
        raise Broken(object())

    async def opaque() -> object:
        return object()

    async def nul() -> None:
        raise ValueError("a\x00b")

    @flow.workflow()
    async def body(ctx) -> list[str]:
        seen = []
        for fn in (broken, opaque, nul):
            try:
                await ctx.step(fn)
            except StepFailed as error:
                seen.append(str(error))
        return seen

    async with serving(flow):
        first, second, third = await flow.run("body", timeout=10)
    assert "its __str__ raised RuntimeError" in first
    assert "can't be carried as JSON" in second
    assert third == "a\\x00b"


async def test_retries_timeout_and_plain_functions(flow: Flow, serving, sql) -> None:
    """A step is tried as its policy says, each attempt on the record; a timeout ends an attempt;
    def runs in a thread.
    """
    attempts: list[int] = []

    @flow.step(retries=Retry(max_attempts=3, initial=0.01))
    async def flaky(ctx) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return ctx.attempt

    @flow.step(timeout=0.02)
    async def stuck(ctx) -> None:
        await asyncio.Event().wait()

    def plain(a: int, b: int = 1) -> int:
        return a + b

    @flow.workflow()
    async def body(ctx) -> list:
        made = [await flaky(ctx), await ctx.step(plain, 1, b=2)]
        try:
            await stuck(ctx)
        except StepTimeout as error:
            made.append(str(error))
        return made

    async with serving(flow):
        assert await flow.run("body", timeout=10) == [
            3, 3, f"step {stuck.name!r} did not finish within 0.02 s (attempt 1)",
        ]  # fmt: skip
    assert attempts == [1, 2, 3]
    assert await sql.fetchval("SELECT count(*) FROM journal WHERE kind = 'attempt'") == 2


async def test_signals_are_buffered_ordered_and_typed(flow: Flow, serving) -> None:
    """Signals sent before anybody waits are kept in order; a payload that doesn't fit is an error
    of the body.
    """

    @flow.workflow()
    async def body(ctx) -> list:
        got = [await ctx.wait_signal("n", int) for _ in range(3)]
        try:
            await ctx.wait_signal("n", int)
        except PayloadError:
            got.append(None)
        got.append(list(await ctx.wait_any_signal(["a", "b"])))
        return got

    async with flow:
        run_id = await flow.start("body")
        for n in (1, 2, 3, "x"):
            assert await flow.send_signal(run_id, "n", n, idempotency_key=f"k{n}")
        assert not await flow.send_signal(run_id, "n", 1, idempotency_key="k1")
        await flow.send_signal(run_id, "b", {"later": False})
    async with serving(flow):
        assert await flow.result(run_id, timeout=10) == [1, 2, 3, None, ["b", {"later": False}]]


async def test_sleep_parks_and_wakes(flow: Flow, serving, sql) -> None:
    """A sleep of more than the hold time gives the claim back, and the run goes on when it is
    due.
    """

    @flow.workflow()
    async def nap(ctx) -> float:
        before = ctx.now()
        await ctx.sleep(1.2)
        return (ctx.now() - before).total_seconds()

    async with serving(flow):
        run_id = await flow.start("nap")
        row = await eventually(
            lambda: sql.fetchrow("SELECT worker_id, waiting_for FROM run WHERE status = 'waiting'")
        )
        assert row["worker_id"] is None
        assert row["waiting_for"] == "timer 'timer'"
        assert 1.2 <= await flow.result(run_id, timeout=10) < 2.5


async def test_determined_values_are_the_same_after_replay(flow: Flow, serving, sql) -> None:
    """now(), random() and uuid4() give a replayed body what they gave before."""
    seen: list[tuple[object, ...]] = []

    @flow.workflow()
    async def body(ctx) -> None:
        drawn = (ctx.now(), ctx.random().random(), ctx.uuid4(), ctx.uuid4())
        seen.append(drawn)
        await ctx.wait_signal("go")

    async with serving(flow, warm=0):
        run_id = await flow.start("body")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await eventually(lambda: not flow._workers[0]._active)
        await flow.send_signal(run_id, "go")
        await flow.result(run_id, timeout=10)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][2] != seen[0][3]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: asyncio.open_connection("127.0.0.1", 1), "belongs into a step"),
        (lambda: asyncio.to_thread(print), "belongs into a step"),
    ],
)
async def test_io_in_a_body_is_refused(flow: Flow, serving, what, message) -> None:
    """A body that reaches outside fails at once, with the mend named."""

    @flow.workflow()
    async def body(ctx) -> None:
        await what()

    async with serving(flow):
        with pytest.raises(RunFailed, match=message):
            await flow.run("body", timeout=10)


async def test_context_used_outside_of_the_body_is_refused(flow: Flow, serving) -> None:
    """A workflow's context that leaks into a step can't journal from there."""

    @flow.workflow()
    async def body(ctx) -> None:
        async def step() -> None:
            await ctx.sleep(0.01)

        await ctx.step(step)

    async with serving(flow):
        with pytest.raises(RunFailed, match="outside of its body"):
            await flow.run("body", timeout=10)


async def test_exit_in_a_body_fails_the_run_and_not_the_worker(flow: Flow, serving) -> None:
    """SystemExit raised by a body or a step ends that run only."""

    @flow.workflow()
    async def leave(ctx) -> None:
        raise SystemExit(3)

    @flow.workflow()
    async def leave_in_step(ctx) -> None:
        async def step() -> None:
            raise SystemExit(4)

        await ctx.step(step)

    @flow.workflow()
    async def fine(ctx) -> int:
        return 1

    async with serving(flow):
        for name in ("leave", "leave_in_step"):
            with pytest.raises(RunFailed):
                await flow.run(name, timeout=10)
        assert await flow.run("fine", timeout=10) == 1


async def test_progress_leaves_no_trace_in_the_journal(flow: Flow, serving) -> None:
    """What a body shows just before it ends is shown, and sets no timer of the run's own."""

    @flow.workflow(name="shower")
    async def shower(ctx) -> int:
        ctx.progress(1, 2, "half")
        return 1

    async with serving(flow):
        run_id = await flow.start(shower)
        assert await flow.result(run_id, timeout=10) == 1

        async def shown() -> bool:
            return await flow.progress(run_id) is not None

        await eventually(shown)
        assert await flow._open.store.journal(run_id) == []

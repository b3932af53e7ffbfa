# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Every mistake at the public calls of Flow and FlowContext gets one message that names the thing,
says what is wrong and how to mend it; nothing of it reaches Postgres.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from forktex_core.flow import (
    ContextMisuseError,
    DefinitionError,
    Flow,
    FlowContext,
    IllegalTransitionError,
    PayloadError,
    RunFailed,
    RunFinishedError,
    RunNotFoundError,
    StepContext,
    StepNotFoundError,
    UnknownScheduleError,
    UnknownWorkflowError,
)
from tests.waiting import eventually

NOBODY = UUID("01a20000-0000-7000-8000-000000000000")
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the mistake
MOMENT = NAIVE.replace(tzinfo=UTC)


def register(flow: Flow) -> None:
    @flow.step
    async def step(ctx: StepContext, value: Any = None) -> Any:
        return value

    @flow.workflow(name="typed")
    async def typed(ctx: FlowContext, n: int) -> int:
        return await step(ctx, n)

    @flow.workflow(name="waits")
    async def waits(ctx: FlowContext) -> str:
        await ctx.publish("here", 1)
        return await ctx.wait_signal("go")


type Call = Callable[[Flow, dict[str, UUID]], Awaitable[Any]]

OUTSIDE: dict[str, tuple[Call, type[Exception], str]] = {
    "start: negative delay": (
        lambda f, r: f.start("typed", 1, delay=-1),
        ValueError,
        "delay must not be negative, not -1",
    ),
    "start: a delay beyond all bounds": (
        lambda f, r: f.start("typed", 1, delay=1e300),
        ValueError,
        "not be longer than 100 years",
    ),
    "start: a delay that is no number": (
        lambda f, r: f.start("typed", 1, delay=float("nan")),
        ValueError,
        "number of seconds, not nan",
    ),
    "start: no timeout": (
        lambda f, r: f.start("typed", 1, timeout=0),
        ValueError,
        "timeout must be more than 0",
    ),
    "start: an endless timeout": (
        lambda f, r: f.start("typed", 1, timeout=float("inf")),
        ValueError,
        "100 years, not inf",
    ),
    "start: an empty idempotency key": (
        lambda f, r: f.start("typed", 1, idempotency_key=""),
        ValueError,
        "idempotency key ''",
    ),
    "start: an unprintable deduplication key": (
        lambda f, r: f.start("typed", 1, deduplication_key="a\0"),
        ValueError,
        "deduplication key",
    ),
    "start: an unfit queue": (
        lambda f, r: f.start("typed", 1, queue=" "),
        DefinitionError,
        "queue name ' '",
    ),
    "start: an unfit key": (
        lambda f, r: f.start("typed", 1, key=""),
        DefinitionError,
        "key name ''",
    ),
    "start: metadata that is no dict": (
        lambda f, r: f.start("typed", 1, metadata=[1]),
        PayloadError,
        "metadata must be a dict",
    ),
    "start: metadata with a NUL": (
        lambda f, r: f.start("typed", 1, metadata={"a": "\0"}),
        PayloadError,
        "a NUL character",
    ),
    "start: metadata that JSON can't carry": (
        lambda f, r: f.start("typed", 1, metadata={"a": MOMENT}),
        PayloadError,
        "metadata can't be",
    ),
    "start_many: an input that does not fit": (
        lambda f, r: f.start_many("typed", [1, None]),
        PayloadError,
        "the input of 'typed'",
    ),
    "start_many: unknown": (
        lambda f, r: f.start_many("nothing", [1]),
        UnknownWorkflowError,
        "no workflow 'nothing'",
    ),
    "run: unknown version": (
        lambda f, r: f.run("typed", 1, version=9),
        UnknownWorkflowError,
        "version 9 of workflow",
    ),
    "result: no run": (
        lambda f, r: f.result(NOBODY),
        RunNotFoundError,
        f"there is no run {NOBODY}",
    ),
    "result: no id": (lambda f, r: f.result(7), ValueError, "a run id is a UUID, not 7"),
    "send_signal: an engine's name": (
        lambda f, r: f.send_signal(r["waits"], "$cancel"),
        DefinitionError,
        r"begin with '\$'",
    ),
    "send_signal: no name": (
        lambda f, r: f.send_signal(r["waits"], ""),
        DefinitionError,
        "signal name ''",
    ),
    "send_signal: a payload that JSON can't carry": (
        lambda f, r: f.send_signal(r["waits"], "s", {1: 2}),
        PayloadError,
        "payload of signal 's'",
    ),
    "send_signal: finished": (
        lambda f, r: f.send_signal(r["done"], "s"),
        RunFinishedError,
        "has succeeded: it takes no",
    ),
    "cancel: no run": (lambda f, r: f.cancel(NOBODY), RunNotFoundError, "no run"),
    "pause: no run": (lambda f, r: f.pause(NOBODY), RunNotFoundError, "no run"),
    "pause: finished": (
        lambda f, r: f.pause(r["done"]),
        RunFinishedError,
        "can't be paused any more",
    ),
    "resume: no run": (lambda f, r: f.resume(NOBODY), RunNotFoundError, "no run"),
    "resume: not paused": (
        lambda f, r: f.resume(r["waits"]),
        IllegalTransitionError,
        r"is waiting: resume\(\) takes",
    ),
    "retry: no run": (lambda f, r: f.retry(NOBODY), RunNotFoundError, "no run"),
    "retry: succeeded": (lambda f, r: f.retry(r["done"]), RunFinishedError, r"fork\(\)"),
    "retry: at work": (
        lambda f, r: f.retry(r["waits"]),
        IllegalTransitionError,
        r"is waiting: retry\(\) takes",
    ),
    "rewind: no such step": (
        lambda f, r: f.rewind(r["waits"], "nothing"),
        StepNotFoundError,
        "no step 'nothing'",
    ),
    "fork: no such step": (
        lambda f, r: f.fork(r["done"], from_step="nothing"),
        StepNotFoundError,
        "recorded are",
    ),
    "fork: no such version": (
        lambda f, r: f.fork(r["done"], from_step="1", version=9),
        UnknownWorkflowError,
        "version 9",
    ),
    "published: no run": (lambda f, r: f.published(NOBODY, "k"), RunNotFoundError, "no run"),
    "progress: no run": (lambda f, r: f.progress(NOBODY), RunNotFoundError, "no run"),
    "queue: no room": (
        lambda f, r: f.queue("q", concurrency=0),
        ValueError,
        r"at least 1, not 0: pause_queue",
    ),
    "queue: no rate": (
        lambda f, r: f.queue("q", rate=(1, 0)),
        ValueError,
        "rate must be 1 to 1000",
    ),
    "pause_queue: no name": (lambda f, r: f.pause_queue(""), DefinitionError, "queue name ''"),
    "schedule: no plan": (lambda f, r: f.schedule("s", "waits"), ValueError, "one of cron"),
    "schedule: no cron": (
        lambda f, r: f.schedule("s", "waits", cron="soon"),
        ValueError,
        "'soon' is no cron",
    ),
    "schedule: no zone": (
        lambda f, r: f.schedule("s", "waits", cron="* * * * *", timezone="Mars"),
        ValueError,
        "Mars",
    ),
    "schedule: naive": (lambda f, r: f.schedule("s", "waits", at=NAIVE), ValueError, "time zone"),
    "schedule: negative jitter": (
        lambda f, r: f.schedule("s", "waits", every=60, jitter=-1),
        ValueError,
        "jitter must not be",
    ),
    "schedule: unknown overlap": (
        lambda f, r: f.schedule("s", "waits", every=60, overlap="x"),
        ValueError,
        "overlap must be",
    ),
    "schedule: unknown": (
        lambda f, r: f.schedule("s", "nothing", every=60),
        UnknownWorkflowError,
        "'nothing'",
    ),
    "get_schedule": (lambda f, r: f.get_schedule("s"), UnknownScheduleError, "no schedule 's'"),
    "trigger_schedule": (lambda f, r: f.trigger_schedule("s"), UnknownScheduleError, "schedule()"),
    "pause_schedule": (lambda f, r: f.pause_schedule("s"), UnknownScheduleError, "'s'"),
    "delete_schedule": (lambda f, r: f.delete_schedule("s"), UnknownScheduleError, "'s'"),
    "retain: negative": (
        lambda f, r: f.retain("r", older_than=-1),
        ValueError,
        "older_than must not be negative",
    ),
    "retain: not a final status": (
        lambda f, r: f.retain("r", older_than=1, statuses=["running"]),
        ValueError,
        "'running'",
    ),
}


async def test_mistakes_from_outside(flow: Flow, serving, sql) -> None:
    """Each is refused with its message, and changes nothing."""
    register(flow)
    async with serving(flow):
        runs = {"done": await flow.start("typed", 1), "waits": await flow.start("waits")}
        await flow.result(runs["done"], timeout=10)
        await eventually(
            lambda: sql.fetchval("SELECT status = 'waiting' FROM run WHERE workflow = 'waits'")
        )
        tables = ("run", "signal", "schedule", "retention", "journal")
        count = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        before = await sql.fetchval(f"SELECT {count}")
        for what, (call, kind, message) in OUTSIDE.items():
            with pytest.raises(kind, match=message):
                await call(flow, runs)
                print("not refused:", what)
        assert await sql.fetchval(f"SELECT {count}") == before
        statuses = dict(await sql.fetch("SELECT workflow, status FROM run"))
        assert statuses == {"typed": "succeeded", "waits": "waiting"}


type Inside = Callable[[FlowContext], Any]

INSIDE: dict[str, tuple[Inside, type[Exception], str]] = {
    "sleep_until: naive": (lambda c: c.sleep_until(NAIVE), ValueError, "needs a time zone"),
    "sleep: no number": (lambda c: c.sleep(float("nan")), ValueError, "seconds, not nan"),
    "wait_signal: an engine's name": (
        lambda c: c.wait_signal("$x"),
        DefinitionError,
        r"begin with '\$'",
    ),
    "wait_signal: no name": (lambda c: c.wait_signal(""), DefinitionError, "signal name ''"),
    "wait_signal: no number": (
        lambda c: c.wait_signal("s", timeout=float("nan")),
        ValueError,
        "not nan",
    ),
    "select: nothing": (lambda c: c.select(), ValueError, "at least one awaitable"),
    "map: no room": (lambda c: c.map(len, ["a"], limit=0), ValueError, "limit must be at least 1"),
    "step: no function": (lambda c: c.step(7), DefinitionError, "a step must be a function, not 7"),
    "step: a result that JSON can't carry": (
        lambda c: c.step(_opaque),
        PayloadError,
        "the result of step '_opaque' can't be carried",
    ),
    "start_child: unknown": (
        lambda c: c.start_child("nothing"),
        UnknownWorkflowError,
        "no workflow 'nothing'",
    ),
    "start_child: does not fit": (
        lambda c: c.start_child("typed", "x"),
        PayloadError,
        "the input of 'typed' doesn't fit int",
    ),
    "start_child: too much": (
        lambda c: c.start_child("waits", 1),
        DefinitionError,
        "'waits' takes no input",
    ),
    "start_child: negative delay": (
        lambda c: c.start_child("waits", delay=-1),
        ValueError,
        "delay must not be negative",
    ),
    "start_child: unknown policy": (
        lambda c: c.start_child("waits", parent_close="x"),
        DefinitionError,
        "parent_close must be",
    ),
    "send_signal: an engine's name": (
        lambda c: c.send_signal(NOBODY, "$x"),
        DefinitionError,
        r"begin with '\$'",
    ),
    "publish: an engine's key": (lambda c: c.publish("$x", 1), DefinitionError, r"begin with '\$'"),
    "publish: what JSON can't carry": (
        lambda c: c.publish("k", {1: 2}),
        PayloadError,
        "published value 'k'",
    ),
    "patched: no name": (lambda c: _now(c.patched, ""), DefinitionError, "change name ''"),
    "continue_as_new: in a branch": (
        lambda c: asyncio.create_task(_now(c.continue_as_new)),
        ContextMisuseError,
        "in a branch",
    ),
    "on_rollback: no function": (
        lambda c: _now(c.on_rollback, 7),
        DefinitionError,
        "must be a func",
    ),
}


async def _now(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


async def _opaque():
    return object()


async def test_mistakes_in_a_body(flow: Flow, serving, sql) -> None:
    """Each is raised in the body, where it was made; the run can go on."""
    register(flow)

    @flow.workflow(name="clumsy")
    async def clumsy(ctx: FlowContext) -> dict[str, list[str]]:
        raised = {}
        for what, (call, *_) in INSIDE.items():
            try:
                await call(ctx)
            except Exception as error:
                raised[what] = ["|".join(k.__name__ for k in type(error).__mro__), str(error)]
        return raised

    async with serving(flow):
        raised = await flow.run("clumsy", timeout=20)
    for what, (_, kind, message) in INSIDE.items():
        assert what in raised, f"not refused: {what}"
        kinds, text = raised[what]
        assert kind.__name__ in kinds, what
        assert re.search(message, text), text
    assert await sql.fetchval("SELECT count(*) FROM run") == 1


async def test_definitions_with_limits_that_are_none(flow: Flow) -> None:
    """Time limits of steps and workflows are checked when they are defined."""
    for options in ({"timeout": 0}, {"deadline": timedelta(seconds=-1)}, {"timeout": 1e300}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} of step '.*limited' must"):

            @flow.step(**options)
            async def limited(ctx: StepContext) -> None: ...

    with pytest.raises(ValueError, match="workflow 'w': cancel_grace must not be negative, not -1"):

        @flow.workflow(name="w", cancel_grace=-1)
        async def hasty(ctx: FlowContext) -> None: ...


@pytest.mark.parametrize("length", [1e10, 1e15, float("inf")])
async def test_a_sleep_beyond_all_calendars(flow: Flow, serving, sql, length: float) -> None:
    """Who sleeps longer than a calendar reaches sleeps for ever, and holds up nobody else."""
    register(flow)

    @flow.workflow(name="sleeps")
    async def sleeps(ctx: FlowContext) -> str:
        return (await ctx.select(end=ctx.sleep(length), go=ctx.wait_signal("go")))[0]

    async with serving(flow, warm=0):
        run_id = await flow.start("sleeps")
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        assert await flow.run("typed", 1, timeout=10) == 1
        await flow.send_signal(run_id, "go")
        assert await flow.result(run_id, timeout=10) == "go"


async def test_a_failed_run_takes_nothing_more(flow: Flow, serving) -> None:
    """What is asked of a run that failed says so."""

    @flow.workflow(name="fails")
    async def fails(ctx: FlowContext) -> None:
        raise ValueError("no")

    async with serving(flow):
        run_id = await flow.start("fails")
        with pytest.raises(RunFailed):
            await flow.result(run_id, timeout=10)
        with pytest.raises(RunFinishedError, match="has failed: it takes no signal 'go' any more"):
            await flow.send_signal(run_id, "go")
        with pytest.raises(RunFinishedError, match="has failed: it can't be paused"):
            await flow.pause(run_id)
        with pytest.raises(IllegalTransitionError, match=r"is failed: resume\(\) takes"):
            await flow.resume(run_id)
        assert not await flow.cancel(run_id)

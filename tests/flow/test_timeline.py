# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.runs.timeline`` and ``stream``: what happened to a run, in order, from real runs."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from forktex_core.flow import Event, Flow, QueryError, Retry, RunNotFoundError
from tests.waiting import eventually


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    """Kind and name of each event."""
    return [(event.kind, event.name) for event in events]


def register(flow: Flow) -> dict:
    """A workflow with something of everything; return what its steps count."""
    counts = {"tries": 0}

    @flow.step(retries=Retry(max_attempts=3, initial=0.01, jitter=0))
    async def flaky(ctx) -> str:
        counts["tries"] += 1
        if counts["tries"] < 3:
            raise ValueError(f"try {counts['tries']}")
        return "at last"

    @flow.workflow(name="part")
    async def part(ctx, n: int) -> int:
        return n + 1

    @flow.workflow(name="whole")
    async def whole(ctx) -> str:
        found = await flaky(ctx)
        await ctx.sleep(0.01)
        await ctx.run_child(part, 1)
        await ctx.publish("stage", "asking")
        answer = await ctx.wait_signal("answer")
        try:
            await ctx.wait_signal("never", timeout=0.01)
        except TimeoutError:
            found += f" {answer}"
        return found

    return counts


async def test_a_timeline_tells_all_in_order(flow: Flow, serving) -> None:
    """Steps with their attempts, waits, signals, timers, children, claims and workers, each once
    and by the time at which it began, with durations.
    """
    register(flow)
    async with serving(flow):
        run_id = await flow.start("whole")
        await eventually(lambda: waits(flow, run_id))
        await flow.send_signal(run_id, "answer", "yes", idempotency_key="k")
        assert await flow.result(run_id, timeout=10) == "at last yes"
        told = await flow.runs.timeline(run_id)
        bare = await flow.runs.timeline(run_id, payloads=False)
        child = await flow.runs.where(parent=run_id).first()
    events = told.events
    assert [e.at for e in events[1:-1]] == sorted(e.at for e in events[1:-1])
    story = [name for name in kinds(events) if name[0] not in ("claim", "signal")]
    assert story == [
        ("created", "whole"), ("step", "register.<locals>.flaky"), ("timer", "timer"),
        ("child", "part"), ("wait", "end of part"), ("effect", "stage"), ("wait", "answer"),
        ("wait", "never"), ("ended", "succeeded"),
    ]  # fmt: skip
    by = {e.name: e for e in events}
    step = by["register.<locals>.flaky"]
    assert [a.number for a in step.attempts] == [1, 2, 3]
    assert [str(a.error) for a in step.attempts] == [
        "builtins.ValueError: try 1", "builtins.ValueError: try 2", "None",
    ]  # fmt: skip
    first, second, third = step.attempts
    assert first.started_at <= first.retry_at
    assert first.started_at <= second.started_at <= third.started_at
    assert third.retry_at is None
    assert step.at == first.started_at
    assert step.duration == third.ended_at - first.started_at
    assert (step.value, step.failed) == ("at last", False)
    assert by["timer"].duration >= timedelta(seconds=0.01)
    assert child is not None
    assert (by["part"].run_id, by["part"].detail) == (child.id, "it is succeeded now")
    arrived = next(e for e in events if e.kind == "signal" and e.name == "answer")
    taken = next(e for e in events if e.kind == "wait" and e.name == "answer")
    assert (arrived.value, arrived.key) == ("yes", "k")
    assert arrived.detail.endswith("taken")
    assert taken.value == "yes"
    assert by["never"].failed
    assert timedelta(seconds=0.01) <= by["never"].duration < timedelta(seconds=5)
    claims = [e for e in events if e.kind == "claim"]
    assert len(claims) >= 2
    assert {e.worker_id for e in claims} == set(told.workers)
    assert all(e.ended_at >= e.at for e in claims)
    ended = events[-1]
    assert (ended.value, ended.failed) == ("at last yes", False)
    assert kinds(bare.events) == kinds(events)
    assert all(e.value is None for e in bare.events if e.kind != "ended")


async def waits(flow: Flow, run_id, what: str = "signal 'answer'") -> bool:
    """Whether a run is parked at a wait."""
    run = await flow.runs.get(run_id)
    return run.status == "waiting" and run.waiting_for == what


async def test_a_timeline_of_what_goes_on(flow: Flow, serving) -> None:
    """A wait that is not over, a step that is to be tried again, a pause with its author, a
    compensation and the end of a worker are told too.
    """
    broken = {"now": True}

    @flow.step(retries=Retry(max_attempts=5, initial=3600))
    async def later(ctx) -> None:
        raise OSError("no line")

    @flow.workflow(name="trying")
    async def trying(ctx) -> None:
        await later(ctx)

    async def undo() -> None: ...

    async def work() -> None:
        if broken["now"]:
            raise RuntimeError("broken")

    @flow.workflow(name="undoing")
    async def undoing(ctx) -> None:
        ctx.on_rollback(undo)
        await ctx.wait_signal("go")
        await ctx.step(work)

    async with flow:
        run_id = await flow.start("undoing")
    async with serving(flow):
        tried = await flow.start("trying")
        await eventually(lambda: waits(flow, run_id, "signal 'go'"))
        told = (await flow.runs.timeline(run_id)).events
        assert kinds(told)[-1] == ("waiting", "signal 'go'")
        assert told[-1].duration is None
        await eventually(lambda: waits(flow, tried, f"step '{later.name}'"))
        step = (await flow.runs.timeline(tried)).events[1:]
        step = next(e for e in step if e.kind == "step")
        assert (step.ended_at, str(step.error)) == (None, "builtins.OSError: no line")
        assert step.detail.startswith("attempt 1 failed; the next was due at")
        await flow.pause(tried, by="ada")
        paused = (await flow.runs.timeline(tried)).events[-1]
        assert (paused.kind, paused.detail) == ("paused", "paused by ada")
        first = (await flow.fleet.workers())[0].id
    async with serving(flow):
        await flow.send_signal(run_id, "go")
        with pytest.raises(RuntimeError, match="broken"):
            await flow.result(run_id, timeout=10)
        timeline = await flow.runs.timeline(run_id)
    failed = next(e for e in timeline.events if e.kind == "step" and e.failed)
    assert str(failed.error) == "builtins.RuntimeError: broken"
    assert "work" in failed.error.traceback
    assert [e.name for e in timeline.events if e.compensation] == [f"{undo.__qualname__}"]
    assert timeline.events[-1].name == "failed"
    assert first not in timeline.workers or timeline.workers[first].ended_at is not None


async def test_a_dead_worker_shows_between_its_entries_and_the_next_ones(flow: Flow, sql) -> None:
    """Whose life ended before others went on stands in the timeline, with the reason."""
    register(flow)
    async with flow:
        run_id = await flow.start("part", 1)
        workers = [
            await sql.fetchval(
                "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock, ended_at,"
                " end_reason) VALUES ($1, 'h', 7, '{}', '{}', 1, false, $2, $3) RETURNING id",
                name, ended, reason,
            )
            for name, ended, reason in (
                ("first", await sql.fetchval("SELECT now() - interval '30 s'"), "gone"),
                ("second", None, None),
            )
        ]  # fmt: skip
        await sql.execute(
            "INSERT INTO journal SELECT $1, k::text, k, 'step', 's' || k, false, '1', k, 1, w,"
            " now() - (61 - 20 * k) * interval '1 s', now() - (60 - 20 * k) * interval '1 s'"
            " FROM unnest($2::bigint[]) WITH ORDINALITY AS x(w, k)",
            run_id, workers,
        )  # fmt: skip
        await sql.execute(
            "UPDATE run SET claim = 2, claimed_at = now() - interval '22 s',"
            " created_at = now() - interval '2 min'"
        )
        told = await flow.runs.timeline(run_id)
    # s1 ran 41 to 40 s ago, the first worker died 30 s ago, s2 ran 21 to 20 s ago.
    assert [(e.kind, e.name, e.failed) for e in told.events if e.kind != "created"] == [
        ("claim", "claim 1", False), ("step", "s1", False), ("worker_ended", "first", True),
        ("claim", "claim 2", False), ("step", "s2", False),
    ]  # fmt: skip
    assert told.workers[workers[0]].end_reason == "gone"
    assert [e.worker_id for e in told.events if e.kind == "claim"] == workers


async def test_a_stream_tells_each_event_once_and_ends(flow: Flow, serving) -> None:
    """What had happened comes first, then what happens, as it does; the end closes the stream."""
    register(flow)
    got: list[Event] = []

    async def follow(run_id) -> None:
        async for event in flow.runs.stream(run_id, poll=0.05):
            got.append(event)  # noqa: PERF401 - it is looked at while the stream goes on

    async with serving(flow):
        run_id = await flow.start("whole")
        following = asyncio.create_task(follow(run_id))
        await eventually(lambda: ("waiting", "signal 'answer'") in kinds(got))
        assert not following.done()
        await flow.send_signal(run_id, "answer", 1)
        await asyncio.wait_for(following, 10)
        again = [event async for event in flow.runs.stream(run_id)]
        whole = (await flow.runs.timeline(run_id)).events
    assert kinds(got)[0] == ("created", "whole")
    assert kinds(got)[-1] == ("ended", "succeeded")
    done = [e for e in got if e.kind in ("timer", "child", "wait", "signal", "effect", "ended")]
    assert len(set(kinds(done))) == len(done), kinds(got)
    assert kinds(again) == kinds(whole)
    assert {k for k in kinds(whole) if k[0] != "claim"} <= set(kinds(got))


async def test_a_stream_hears_of_the_end_without_polling(flow: Flow, serving) -> None:
    """A notification wakes it: with an hour between looks it ends all the same, and the last stream
    takes the listening connection along.
    """
    register(flow)
    async with serving(flow):
        run_id = await flow.start("whole")
        stream = flow.runs.stream(run_id, poll=3600)
        assert (await anext(stream)).kind == "created"
        streams = flow._open.streams
        await eventually(lambda: streams._link.raw is not None)
        await eventually(lambda: waits(flow, run_id))
        ended = asyncio.create_task(last(stream))
        await asyncio.sleep(0)
        await flow.send_signal(run_id, "answer", 1)
        assert (await asyncio.wait_for(ended, 10)).kind == "ended"
        await eventually(lambda: streams._link.raw is None)
        assert streams._told == {}


async def last(stream) -> Event:
    """The last event of a stream."""
    event = None
    async for event in stream:  # noqa: B007
        pass
    assert event is not None
    return event


async def test_a_stream_without_notifications_polls(postgres, schema, serving) -> None:
    """Behind a transaction pooler nothing is heard, and everything is found."""
    flow = Flow(postgres.url, schema=schema, pooled=True)
    register(flow)
    async with serving(flow):
        run_id = await flow.start("part", 1)
        event = await asyncio.wait_for(last(flow.runs.stream(run_id, poll=0.05)), 10)
        assert (event.kind, event.name) == ("ended", "succeeded")
        assert flow._open.streams._link.raw is None


async def test_streams_of_runs_that_are_not_there(flow: Flow, sql) -> None:
    """An unknown run, one that is pruned meanwhile, and a senseless interval are told."""
    register(flow)
    async with flow:
        with pytest.raises(RunNotFoundError):
            await anext(flow.runs.stream(uuid4()))
        run_id = await flow.start("part", 1)
        with pytest.raises(QueryError, match=r"poll is 0\.05 seconds or more"):
            await anext(flow.runs.stream(run_id, poll=0))
        stream = flow.runs.stream(run_id, poll=0.05)
        assert (await anext(stream)).kind == "created"
        await sql.execute("DELETE FROM run")
        with pytest.raises(RunNotFoundError):
            await last(stream)

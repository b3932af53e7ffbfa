# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Schedules in the database: fired once, by a leader in office, whatever overlaps or crashes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from forktex_core.flow import Flow, UnknownScheduleError, UnknownWorkflowError
from forktex_core.flow.engine.timetable import FireSchedules
from forktex_core.flow.plan import scheduled_run_id
from tests.waiting import eventually

HOUR = timedelta(hours=1)


def register(flow: Flow) -> None:
    @flow.workflow(name="nightly")
    async def nightly(ctx, what: str | None = None) -> str | None:
        if what == "wait":
            await ctx.wait_signal("go")
        return what


@pytest.fixture
async def office(flow: Flow, sql) -> AsyncIterator[FireSchedules]:
    """An open Flow, and the leader's chore in an office of its own (worker 1, term 1)."""
    register(flow)
    async with flow:
        await sql.execute("UPDATE leader SET worker_id = 1, term = 1")
        yield FireSchedules(flow._open.schedules, lambda queues: None)


async def overdue(sql, name: str, by: timedelta) -> datetime:
    """Let a schedule's next time be past, as if no leader had been there; return it."""
    return await sql.fetchval(
        "UPDATE schedule SET next_at = date_trunc('minute', clock_timestamp()) - $2::interval,"
        " revision = revision + 1 WHERE name = $1 RETURNING next_at",
        name,
        by,
    )


async def test_a_time_fires_once_across_workers(postgres, schema, serving, sql) -> None:
    """Three workers, one schedule a second: each time has one run, by its derived id."""
    flows = [Flow(postgres.url, schema=schema) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for flow in flows:
            register(flow)
            await stack.enter_async_context(serving(flow))
        made = await flows[0].schedule("tick", "nightly", every=1, input="x", overlap="allow")
        assert made.next_at is not None
        await eventually(
            lambda: sql.fetchval("SELECT count(*) >= 3 FROM run WHERE finished_at IS NOT NULL")
        )
        await flows[1].delete_schedule("tick")
    ids = {r["id"] for r in await sql.fetch("SELECT id FROM run")}
    times = [made.next_at + n * timedelta(seconds=1) for n in range(len(ids))]
    assert ids == {scheduled_run_id("tick", t) for t in times}
    assert await sql.fetchval("SELECT min(input::text) FROM run") == '"x"'


async def test_leader_that_was_deposed_fires_nothing(flow, office, sql) -> None:
    """The term is locked and checked in the statement that starts the run; so is the revision."""
    await flow.schedule("s", "nightly", cron="* * * * *", catch_up=HOUR)
    await overdue(sql, "s", timedelta(minutes=1))
    row = (await office._store.due_schedules())[0]
    await sql.execute("UPDATE leader SET term = 2")
    await office._fire(1, 1, row)
    assert await sql.fetchval("SELECT count(*) FROM run") == 0
    await sql.execute("UPDATE schedule SET revision = revision + 1")
    await office._fire(1, 2, row)
    assert await sql.fetchval("SELECT count(*) FROM run") == 0
    await office.perform(1, 2)
    assert await sql.fetchval("SELECT count(*) FROM run") >= 1


async def test_a_time_that_is_fired_again_starts_nothing(flow, office, sql) -> None:
    """Bookkeeping that is set back, as by a crash in between, repeats no run."""
    await flow.schedule("s", "nightly", cron="* * * * *", catch_up=HOUR, overlap="allow")
    first = await overdue(sql, "s", timedelta(minutes=2))
    await office.perform(1, 1)
    count = await sql.fetchval("SELECT count(*) FROM run")
    await sql.execute("UPDATE schedule SET next_at = $1, revision = revision + 1", first)
    await office.perform(1, 1)
    assert await sql.fetchval("SELECT count(*) FROM run") - count <= 1  # a minute may have passed
    assert await sql.fetchval("SELECT count(DISTINCT id) = count(*) FROM run")
    assert (
        await sql.fetchval("SELECT count(*) FROM run WHERE id = $1", scheduled_run_id("s", first))
        == 1
    )


@pytest.mark.parametrize(
    ("overlap", "pending", "waiting", "skipped"),
    [("skip", 1, 0, 2), ("allow", 3, 0, 0), ("queue", 1, 2, 0), ("cancel_running", 1, 0, 0)],
)
async def test_overlap(flow, office, sql, overlap, pending, waiting, skipped) -> None:
    """Three times are due at once while nothing runs them yet."""
    moments = [datetime.now(UTC) + timedelta(hours=n) for n in range(3)]
    await flow.schedule("s", "nightly", at=moments, overlap=overlap, catch_up=24 * HOUR)
    past = [m - 5 * HOUR for m in moments]
    await flow.update_schedule("s", at=past)
    await sql.execute("UPDATE schedule SET next_at = $1, revision = revision + 1", past[0])
    await office.perform(1, 1)
    counted = dict(await sql.fetch("SELECT status, count(*) FROM run GROUP BY 1"))
    assert (counted.get("pending", 0), counted.get("waiting", 0)) == (pending, waiting)
    assert (await flow.get_schedule("s")).skipped == skipped
    assert counted.get("cancelled", 0) == (2 if overlap == "cancel_running" else 0)


async def test_cancel_running_ends_the_run_at_work(flow: Flow, serving, sql) -> None:
    """The run of the time before is cancelled where it waits, and the new one goes on."""
    register(flow)
    async with serving(flow):
        await flow.schedule(
            "s", "nightly", every=1, input="wait", overlap="cancel_running", timeout=60
        )
        await eventually(
            lambda: sql.fetchval("SELECT count(*) >= 2 FROM run WHERE status = 'cancelled'")
        )
        await flow.delete_schedule("s")
    assert await sql.fetchval("SELECT count(*) FROM run WHERE finished_at IS NULL") == 1


async def test_queued_runs_go_one_after_the_other(flow, serving, sql) -> None:
    """With overlap queue, a run begins when the one before it has ended, in order."""
    register(flow)
    async with serving(flow):
        moments = [datetime.now(UTC) - timedelta(hours=n) for n in (3, 2, 1)]
        await flow.schedule(
            "s", "nightly", at=[datetime.now(UTC) + HOUR], overlap="queue", input="wait"
        )
        await flow.update_schedule("s", at=[*moments, datetime.now(UTC) + HOUR])
        ids = await flow.backfill_schedule("s", moments[0], datetime.now(UTC), overlap="queue")
        assert len(ids) == 3
        for number, run_id in enumerate(ids):
            await eventually(
                lambda r=run_id: sql.fetchval(
                    "SELECT started_at IS NOT NULL FROM run WHERE id = $1", r
                )
            )
            assert (
                await sql.fetchval("SELECT count(*) FROM run WHERE started_at IS NOT NULL")
                == number + 1
            )
            await flow.send_signal(run_id, "go")
            await flow.result(run_id, timeout=10)


async def test_missed_times(flow, office, sql) -> None:
    """What was missed by more than catch_up is counted and never fired; the rest is."""
    await flow.schedule(
        "s", "nightly", cron="0 * * * *", catch_up=timedelta(hours=2, minutes=30), overlap="allow"
    )
    await sql.execute(
        "UPDATE schedule SET next_at = date_trunc('hour', clock_timestamp()) - interval '5 hours',"
        " revision = revision + 1"
    )
    await office.perform(1, 1)
    found = await flow.get_schedule("s")
    assert (await sql.fetchval("SELECT count(*) FROM run"), found.skipped) in ((3, 3), (2, 4))
    assert found.next_at is not None
    assert found.next_at > datetime.now(UTC) - timedelta(minutes=1)


async def test_editing(flow, office, sql) -> None:
    """Made again as it was, a schedule does not change; a change of its plan counts from now; a
    pause holds it, and what passed meanwhile is not made up for.
    """
    first = await flow.schedule(
        "s", "nightly", cron="0 3 * * *", timezone="Europe/Bucharest", input="a"
    )
    revision = await sql.fetchval("SELECT revision FROM schedule")
    assert (
        await flow.schedule(
            "s", "nightly", cron="0 3 * * *", timezone="Europe/Bucharest", input="a"
        )
        == first
    )
    assert await sql.fetchval("SELECT revision FROM schedule") == revision
    changed = await flow.update_schedule("s", input="b", jitter=60)
    assert (changed.input, changed.next_at, changed.cron) == ("b", first.next_at, ("0 3 * * *",))
    changed = await flow.update_schedule("s", every=60)
    assert (changed.cron, changed.every, changed.timezone) == ((), 60, "Europe/Bucharest")
    assert changed.next_at != first.next_at
    await flow.pause_schedule("s")
    await sql.execute("UPDATE schedule SET next_at = clock_timestamp() - interval '1 hour'")
    await office.perform(1, 1)
    await flow.resume_schedule("s")
    await office.perform(1, 1)
    assert await sql.fetchval("SELECT count(*) FROM run") == 0
    assert [s.name for s in await flow.schedules()] == ["s"]
    await flow.delete_schedule("s")
    for act in (
        flow.get_schedule,
        flow.pause_schedule,
        flow.resume_schedule,
        flow.delete_schedule,
        flow.trigger_schedule,
    ):
        with pytest.raises(UnknownScheduleError, match="'s'"):
            await act("s")


async def test_trigger_and_backfill(flow, office, sql) -> None:
    """A trigger starts one now; a backfill starts the times of a span, and only those that never
    fired.
    """
    await flow.schedule("s", "nightly", cron="0 3 * * *", overlap="skip")
    run_id = await flow.trigger_schedule("s")
    assert await sql.fetchval("SELECT schedule FROM run WHERE id = $1", run_id) == "s"
    start = datetime(2026, 3, 1, tzinfo=UTC)
    ids = await flow.backfill_schedule("s", start, start + timedelta(days=3))
    assert ids == [scheduled_run_id("s", start + timedelta(days=n, hours=3)) for n in range(3)]
    assert len(await flow.backfill_schedule("s", start, start + timedelta(days=5))) == 2
    with pytest.raises(ValueError, match="time zone"):
        await flow.backfill_schedule("s", start.replace(tzinfo=None), start)
    with pytest.raises(ValueError, match=r"10000|10,000|in parts"):
        await flow.update_schedule("s", every=1)
        await flow.backfill_schedule("s", start, start + timedelta(days=1))


async def test_jitter_spreads_runs_after_their_times(flow, office, sql) -> None:
    """The run exists at its time, and is due up to the jitter later."""
    await flow.schedule(
        "s", "nightly", cron="* * * * *", jitter=HOUR, catch_up=HOUR, overlap="allow"
    )
    await overdue(sql, "s", timedelta(minutes=5))
    await office.perform(1, 1)
    spread = await sql.fetch("SELECT due_at - clock_timestamp() AS late FROM run")
    assert len({r["late"] for r in spread}) >= 5
    assert all(timedelta(minutes=-6) < r["late"] < HOUR for r in spread)


async def test_a_broken_schedule_holds_up_no_other(flow, office, sql) -> None:
    """A schedule whose row makes no sense is told of in the log, and the next one fires."""
    await flow.schedule("a", "nightly", cron="* * * * *")
    await flow.schedule("b", "nightly", cron="* * * * *")
    await sql.execute("UPDATE schedule SET plan = '{}' WHERE name = 'a'")
    await overdue(sql, "a", timedelta(minutes=1))
    await overdue(sql, "b", timedelta(minutes=0))
    await office.perform(1, 1)
    assert await sql.fetchval("SELECT count(*) FROM run WHERE schedule = 'b'") == 1


async def test_what_can_not_be_scheduled(flow, office) -> None:
    """Each mistake is one clear error."""
    with pytest.raises(UnknownWorkflowError):
        await flow.schedule("s", "nowhere", every=60)
    with pytest.raises(ValueError, match="exactly one"):
        await flow.schedule("s", "nightly", every=60, cron="* * * * *")
    with pytest.raises(ValueError, match="overlap"):
        await flow.schedule("s", "nightly", every=60, overlap="perhaps")  # type: ignore[arg-type]


async def test_timeout_of_scheduled_runs(flow, office, sql) -> None:
    """A scheduled run has the timeout of its schedule."""
    await flow.schedule("s", "nightly", every=60, timeout=30)
    await flow.trigger_schedule("s")
    assert 29 < await sql.fetchval("SELECT extract(epoch FROM deadline_at - due_at) FROM run") < 31

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.runs.explain``: why a run does not move, each reason brought about for real."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from forktex_core.flow import Finding, Flow, Retry, RunNotFoundError
from forktex_core.flow.inspect.facts import waits
from tests.waiting import eventually


async def why(flow: Flow, run_id) -> dict[str, Finding]:
    """The findings about a run by their codes."""
    found = await flow.runs.explain(run_id)
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


async def tells(flow: Flow, run_id, code: str) -> Finding | None:
    """The finding of a code, if there is one now: a run that got a signal is due for a moment."""
    return (await why(flow, run_id)).get(code)


async def parked(flow: Flow, run_id) -> bool:
    """Whether a run waits."""
    return (await flow.runs.get(run_id)).status == "waiting"


@pytest.fixture
def waiting(flow: Flow):
    """Workflows that wait for what their names say."""

    @flow.workflow(name="signal")
    async def signal(ctx) -> None:
        await ctx.wait_signal("approved")

    @flow.workflow(name="either")
    async def either(ctx) -> None:
        await ctx.wait_any_signal(["it's", "no"], timeout=3600)

    @flow.workflow(name="nap")
    async def nap(ctx) -> None:
        await ctx.sleep(3600)

    @flow.workflow(name="parent")
    async def parent(ctx) -> None:
        await ctx.run_child(signal)

    @flow.step(name="call", retries=Retry(max_attempts=3, initial=3600))
    async def call(ctx) -> None:
        raise OSError("no line")

    @flow.workflow(name="calls")
    async def calls(ctx) -> None:
        await call(ctx)

    @flow.workflow(name="stuck")
    async def stuck(ctx) -> None:
        await ctx.step(forever)

    async def forever() -> None:
        await asyncio.Event().wait()

    return flow


async def test_what_a_run_waits_for(waiting: Flow, serving) -> None:
    """A signal and since when, one of several, a child, a moment, another attempt: each is named,
    and a signal of another name that lies in the inbox is pointed at.
    """
    flow = waiting
    async with serving(flow):
        before = datetime.now(UTC)
        ids = {
            name: await flow.start(name) for name in ("signal", "either", "nap", "parent", "calls")
        }
        for run_id in ids.values():
            await eventually(lambda run_id=run_id: parked(flow, run_id))
        found = await why(flow, ids["signal"])
        assert list(found) == ["waiting_for_signal"]
        finding = found["waiting_for_signal"]
        assert finding.sentence.startswith("it waits for signal 'approved' since 2")
        assert "send_signal(run_id, 'approved', …)" in finding.mend
        assert abs(finding.details["since"] - before) < timedelta(seconds=30)
        await flow.send_signal(ids["signal"], "aproved")
        told = await eventually(lambda: tells(flow, ids["signal"], "unexpected_signals"))
        assert "nobody waits for: 'aproved'" in told.sentence
        found = await why(flow, ids["either"])
        assert "signal \"it's\" or 'no'" in found["waiting_for_signal"].sentence
        assert found["sleeping"].sentence.startswith("it waits until")
        found = await why(flow, ids["nap"])
        assert list(found) == ["sleeping"]
        assert found["sleeping"].details["until"] > before + timedelta(seconds=3500)
        child = await flow.runs.where(parent=ids["parent"]).first()
        found = await why(flow, ids["parent"])
        assert list(found) == ["waiting_for_child"]
        assert str(child.id) in found["waiting_for_child"].sentence
        found = await why(flow, ids["calls"])
        assert list(found) == ["retry_due"]
        assert "step 'call' failed in attempt 1 (builtins.OSError: no line)" in str(
            found["retry_due"]
        )


async def test_nobody_serves_it(waiting: Flow, serving, postgres, schema) -> None:
    """No worker at all, none for the queue, none for the version: three findings, three mends; and
    a run that is not due says so beside them.
    """
    flow = waiting
    async with flow:
        run_id = await flow.start("signal")
        late = await flow.start("signal", delay=3600)
        found = await why(flow, run_id)
        assert list(found) == ["no_worker", "no_leader"]
        assert "--queue default" in found["no_worker"].mend
        assert list(await why(flow, late)) == ["not_due", "no_worker", "no_leader"]
    other = Flow(postgres.url, schema=schema)

    @other.workflow(name="signal", version=2)
    async def newer(ctx) -> None: ...

    async with serving(other), flow:
        await eventually(flow.fleet.workers)
        found = await why(flow, run_id)
        assert "signal@2" in found["version_not_served"].sentence
        assert "version=1" in found["version_not_served"].mend
    async with serving(flow, queues=("fast",)):
        await eventually(flow.fleet.workers)
        found = await why(flow, run_id)
        assert "serves queue 'default': they serve fast" in found["queue_not_served"].sentence


async def test_what_a_queue_holds_back(waiting: Flow, serving) -> None:
    """A pause, a limit that is taken (by which runs), one of a key, a rate, and full workers."""
    flow = waiting
    async with flow:
        await flow.queue("one", concurrency=1)
        await flow.queue("each", per_key=1)
        await flow.queue("slow", rate=(1, 3600))
        await flow.pause_queue("off")
    async with serving(flow, queues=("one", "each", "slow", "off"), concurrency=3):
        first = await flow.start("stuck", queue="one")
        ada = await flow.start("stuck", queue="each", key="ada")
        begun = await flow.start("signal", queue="slow")
        for run_id, status in ((first, "running"), (ada, "running"), (begun, "waiting")):
            await eventually(lambda run_id=run_id, status=status: is_status(flow, run_id, status))
        second = await flow.start("stuck", queue="one")
        found = await why(flow, second)
        assert list(found) == ["queue_limit"]
        assert f"executes 1 at a time, which are taken by run {first}" in str(found["queue_limit"])
        found = await why(flow, await flow.start("stuck", queue="each", key="ada"))
        assert list(found) == ["key_limit"]
        assert found["key_limit"].details["runs"] == [ada]
        found = await why(flow, await flow.start("signal", queue="slow"))
        assert list(found) == ["rate_limit"]
        assert found["rate_limit"].details["next_at"] > datetime.now(UTC) + timedelta(minutes=50)
        found = await why(flow, await flow.start("signal", queue="off"))
        assert list(found) == ["queue_paused"]
        assert "resume_queue('off')" in found["queue_paused"].mend
        eve = await flow.start("stuck", queue="each", key="eve")
        await eventually(lambda: is_status(flow, eve, "running"))
        found = await why(flow, await flow.start("stuck", queue="each", key="bob"))
        assert list(found) == ["workers_full"]
        assert found["workers_full"].details["slots"] == 3


async def is_status(flow: Flow, run_id, status: str) -> bool:
    """Whether a run stands so."""
    return (await flow.runs.get(run_id)).status == status


async def test_paused_halted_executing_and_ended(waiting: Flow, serving, sql) -> None:
    """By whom it was paused, what halted it, who executes it, how it ended, and its deadline."""
    flow = waiting
    async with serving(flow):
        run_id = await flow.start("stuck", timeout=3600)
        await eventually(lambda: is_status(flow, run_id, "running"))
        worker = (await flow.fleet.workers())[0]
        found = await why(flow, run_id)
        assert list(found) == ["executing", "deadline"]
        assert f"worker {worker.id} ({worker.name}" in found["executing"].sentence
        await sql.execute("UPDATE worker SET heartbeat_at = now() - interval '8 s'")
        await flow.pause(run_id, by="ada")
        found = await why(flow, run_id)
        assert next(iter(found)) == "paused"
        assert "it was paused by ada at 2" in found["paused"].sentence
        await sql.execute('UPDATE run SET error = \'{"type": "E", "message": "halt"}\'')
        assert "it was halted: E: halt" in (await why(flow, run_id))["halted"].sentence
        await flow.cancel(run_id)
        found = await why(flow, run_id)
        assert list(found) == ["ended"]
        assert "has cancelled" in found["ended"].sentence
        done = await flow.start("signal")
        await flow.send_signal(done, "approved")
        await flow.result(done, timeout=10)
        found = await why(flow, done)
        assert "succeeded" in found["ended"].sentence
        with pytest.raises(RunNotFoundError):
            await flow.runs.explain(uuid4())


async def test_a_worker_that_is_not_heard_of(waiting: Flow, sql) -> None:
    """A run that a silent worker holds names that worker and when it was last heard."""
    flow = waiting
    async with flow:
        run_id = await flow.start("signal")
        worker = await sql.fetchval(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock, heartbeat_at)"
            " VALUES ('w', 'h', 7, '{default}', '{signal@1}', 1, false, now() - interval '9 s')"
            " RETURNING id"
        )
        await sql.execute(
            "UPDATE run SET status = 'running', worker_id = $1, due_at = NULL, claim = 1,"
            " claimed_at = now(), started_at = now()", worker,
        )  # fmt: skip
        found = await why(flow, run_id)
        assert list(found) == ["worker_silent", "executing", "no_leader"]
        assert f"worker {worker} (w, h:7)" in found["worker_silent"].sentence
        await sql.execute("UPDATE run SET deadline_at = now() - interval '1 s'")
        assert "the leader does that" in (await why(flow, run_id))["deadline"].mend


async def test_a_lock_and_a_clock(waiting: Flow, postgres, schema, monkeypatch) -> None:
    """A transaction that keeps the run's row is named by its pid; clocks that differ are told."""
    flow = waiting
    async with flow:
        run_id = await flow.start("nap", delay=3600)
        other = await asyncpg.connect(
            postgres.dsn, server_settings={"search_path": schema, "application_name": "shop"}
        )
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT 1 FROM run FOR NO KEY UPDATE")
        pid = other.get_server_pid()
        found = await why(flow, run_id)
        assert next(iter(found)) == "lock_held"
        assert f"pid {pid} (shop, idle in transaction)" in found["lock_held"].sentence
        assert f"pg_terminate_backend({pid})" in found["lock_held"].mend
        await transaction.rollback()
        assert "lock_held" not in await why(flow, run_id)
        await other.close()

        from forktex_core.flow.inspect import facts

        class Ahead(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(seconds=90)

        monkeypatch.setattr(facts, "datetime", Ahead)
        found = await why(flow, run_id)
        assert "clock is 90.0 s ahead of the database's" in found["clock"].sentence


async def test_about_to_start_and_waiting_its_turn(waiting: Flow, serving, sql) -> None:
    """A due run whose worker has room is about to start; one of a schedule that queues waits for
    the run before it.
    """
    flow = waiting
    async with serving(flow):
        await eventually(flow.fleet.workers)
        schedule = await flow.schedule("nightly", "signal", cron="0 0 1 1 *", overlap="queue")
        assert schedule.overlap == "queue"
        start = datetime.now(UTC)
        first, second = (
            await flow.backfill_schedule(
                "nightly", start, start + timedelta(days=800), overlap="queue"
            )
        )[:2]
        found = await why(flow, second)
        assert list(found) == ["waiting_for_run"]
        assert str(first) in found["waiting_for_run"].sentence
        run_id = await flow.start("signal", queue="nowhere")
        await sql.execute("UPDATE worker SET queues = queues || '{nowhere}'")
        assert list(await why(flow, run_id)) == ["about_to_start"]


def test_the_words_of_a_wait_are_read_back() -> None:
    """Whatever characters a name has."""
    names = ["plain", "it's", 'a "b"', "back\\slash", "comma, 'x'", "ünï"]
    label = ", ".join(f"signal {name!r}" for name in names)
    assert waits(label) == [("signal", name) for name in names]
    assert waits(None) == waits("") == []

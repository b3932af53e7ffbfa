# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.examine`` and ``forktex-flow doctor``: what is wrong is found, and nothing else."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from forktex_core.flow import Diagnosis, Flow
from forktex_core.flow.inspect import doctor
from forktex_core.flow.inspect.doctor import CHECKS, Findings, expected_indexes
from tests.waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("forktex-flow"))
# What the throw-away server of the tests is, and must not count.
THROW_AWAY = {"fsync", "full_page_writes", "synchronous_commit"}


async def codes(flow: Flow) -> dict[str, Diagnosis]:
    """What an examination found, by code, save what the server of the tests is by design."""
    found = await flow.examine()
    assert len(found.checked) == len(CHECKS)
    assert found.server.startswith("PostgreSQL ")
    return {d.code: d for d in found.diagnoses if d.code not in THROW_AWAY}


@pytest.fixture
def served(flow: Flow) -> Flow:
    """A Flow with a workflow that ends and one that waits."""

    @flow.workflow(name="quick")
    async def quick(ctx) -> None: ...

    @flow.workflow(name="waits")
    async def waits(ctx) -> None:
        await ctx.wait_signal("go")

    return flow


async def leads(flow: Flow) -> bool:
    """Whether somebody leads."""
    return (await flow.fleet.leader()).present


async def test_what_is_well_is_well(served: Flow, serving) -> None:
    """With a worker and a leader there is nothing to say."""
    async with serving(served):
        await eventually(lambda: leads(served))
        assert await codes(served) == {}


async def test_workers_and_runs_that_stand_still(served: Flow, serving, sql) -> None:
    """No worker, runs that are due for long, over their timeout, or halted, each with the first of
    them; a worker that is silent.
    """
    async with served:
        due = await served.start("quick")
        await sql.execute("UPDATE run SET due_at = now() - interval '2 min'")
        assert list(await codes(served)) == ["no_workers", "runs_due"]
        late = await served.start("waits", timeout=10)
        await sql.execute(
            "UPDATE run SET deadline_at = now() - interval '20 s' WHERE id = $1", late
        )
        halted = await served.start("waits")
        await served.pause(halted)
        await sql.execute("""UPDATE run SET error = '{"type": "E"}' WHERE id = $1""", halted)
        await sql.execute(
            "INSERT INTO worker (name, host, pid, queues, lanes, slots, session_lock, heartbeat_at)"
            " VALUES ('w', 'h', 7, '{}', '{}', 1, false, now() - interval '60 s')"
        )
        found = await codes(served)
        assert list(found) == ["no_leader", "runs_late", "worker_silent", "runs_due", "runs_halted"]
        for code, run_id in (("runs_due", due), ("runs_late", late), ("runs_halted", halted)):
            assert found[code].details["first"] == run_id
            assert str(run_id) in found[code].mend
        assert "(w, h:7)" in found["worker_silent"].sentence
        await served.pause_queue("default")
        assert "runs_due" not in await codes(served)


async def test_indexes_that_are_missing_or_invalid(served: Flow, serving, sql) -> None:
    """An index that somebody dropped, and one whose making was cut off."""
    assert {"run_due", "run_listed", "signal_key"} <= expected_indexes()
    async with serving(served):
        await eventually(lambda: leads(served))
        await sql.execute("DROP INDEX run_parent")
        await sql.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'run_deadline'::regclass"
        )
        found = await codes(served)
        assert list(found) == ["missing_index", "invalid_index"]
        assert "run_parent" in found["missing_index"].sentence
        assert "REINDEX INDEX" in found["invalid_index"].mend


def findings(**changes: Any) -> Findings:
    """A database with which all is well, but for some changes."""
    now = datetime.now(UTC)
    server = {
        "version": 180000, "version_text": "18.0", "fsync": "on", "full_page_writes": "on",
        "synchronous_commit": "on", "autovacuum": "on", "track_counts": "on",
        "statement_timeout": "0", "idle_timeout": "0", "room": 97, "taken": 5, "client_port": 5,
        "now": now,
    } | changes.pop("server", {})  # fmt: skip
    leader = {"worker_id": 1, "seen_at": now, "now": now}
    well = Findings(
        schema="s", pooled=False, here=now, server=server, backends={1}, port=5, tables=[],
        indexes=[], expected_indexes=frozenset(), transactions=[], stuck={}, silent=[],
        leader=leader, lives=[object()],
    )  # fmt: skip
    return replace(well, **changes)


def table(**changes: Any) -> dict[str, Any]:
    """The statistics of a table."""
    now = datetime.now(UTC)
    return {
        "name": "worker", "live": 100, "dead": 0, "updates": 0, "hot": 0, "last_autovacuum": None,
        "last_vacuum": None, "last_analyze": now, "last_autoanalyze": None,
    } | changes  # fmt: skip


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"server": {"version": 130010}}, {"server_version": "error"}),
        ({"server": {"fsync": "off"}}, {"fsync": "error"}),
        ({"server": {"full_page_writes": "off"}}, {"full_page_writes": "error"}),
        ({"server": {"synchronous_commit": "off"}}, {"synchronous_commit": "warning"}),
        ({"server": {"autovacuum": "off"}}, {"autovacuum": "error"}),
        ({"server": {"statement_timeout": "5s"}}, {"statement_timeout": "warning"}),
        ({"server": {"taken": 90}}, {"connections": "warning"}),
        ({"backends": {1, 2}}, {"pooler": "error"}),
        ({"backends": {1, 2}, "pooled": True}, {}),
        ({"port": 6}, {"proxy": "note"}),
        ({"port": 6, "pooled": True}, {}),
        ({"port": 0}, {}),
        ({"server": {"client_port": -1}}, {}),
        ({"here": NOW + timedelta(seconds=90)}, {"clock": "warning"}),
        ({"here": NOW - timedelta(seconds=90)}, {"clock": "warning"}),
        ({"tables": [table(dead=50_000, live=60_000)]}, {"bloat": "warning"}),
        ({"tables": [table(dead=50_000, live=900_000)]}, {}),
        ({"tables": [table(dead=900, live=10)]}, {}),
        ({"tables": [table(updates=5000, hot=1000)]}, {"hot_ratio": "warning"}),
        ({"tables": [table(updates=5000, hot=4900)]}, {}),
        ({"tables": [table(updates=500, hot=0)]}, {}),
        ({"tables": [table(name="run", updates=5000, hot=0)]}, {}),
        ({"tables": [table(live=50_000, last_analyze=None)]}, {"never_analyzed": "warning"}),
        ({"lives": []}, {"no_workers": "warning"}),
    ],
)  # fmt: skip
def test_each_check_finds_its_fault_and_no_other(changes, expected) -> None:
    """By the values at which it begins."""
    found = [d for check in CHECKS for d in check(findings(**changes))]
    assert {d.code: d.level for d in found} == expected
    assert all(d.sentence and d.mend for d in found)


def test_transactions_that_are_old() -> None:
    """Are named with their session, and how to end them."""
    row = {
        "pid": 7, "application_name": "shop", "state": "idle in transaction", "xact_start": NOW,
        "age": timedelta(hours=1),
    }  # fmt: skip
    (found,) = doctor.transactions(findings(transactions=[row]))
    assert "session 7 (shop, idle in transaction)" in found.sentence
    assert "pg_terminate_backend(7)" in found.mend


async def test_the_command(served: Flow, serving, postgres, schema, tmp_path: Path, sql) -> None:
    """Its exit code is 1 for errors and warnings; JSON holds all of it."""

    async def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        import asyncio

        command = [PROGRAM, "doctor", "--database-url", postgres.url, "--schema", schema, *words]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    async with serving(served):
        await eventually(lambda: leads(served))
        await sql.execute("DROP INDEX run_parent")
        said = await doctor()
        assert said.returncode == 1
        assert "index run_parent is missing" in said.stdout
        assert said.stdout.endswith("not well\n")
        found = json.loads((await doctor("--json")).stdout)
        assert found["well"] is False
        wrong = {d["code"] for d in found["diagnoses"]} - THROW_AWAY
        assert wrong == {"missing_index"}


async def test_views_tell_what_the_library_tells(served: Flow, serving, sql) -> None:
    """Each documented view can be read, says what the library says, and has a comment."""
    async with serving(served):
        await eventually(lambda: leads(served))
        run_id = await served.start("waits", key="ada")
        await served.run("quick", timeout=10)
        await served.schedule("nightly", "quick", cron="0 3 * * *")
        await eventually(lambda: sql.fetchval("SELECT count(*) = 1 FROM run_waits"))
        shown = await sql.fetchrow("SELECT * FROM runs WHERE run_id = $1", run_id)
        assert (shown["status"], shown["waiting_for"], shown["key"]) == (
            "waiting", "signal 'go'", "ada",
        )  # fmt: skip
        wait = await sql.fetchrow("SELECT * FROM run_waits WHERE run_id = $1", run_id)
        assert (wait["kind"], wait["name"], wait["ended_at"]) == ("open", "signal 'go'", None)
        assert await sql.fetchval("SELECT leads FROM workers") is True
        assert await sql.fetchval("SELECT name FROM schedules") == "nightly"
        await served.pause_queue("slow")
        await served.start("quick", queue="slow")
        depth = await sql.fetchrow("SELECT * FROM queue_depths WHERE queue = 'slow'")
        assert (depth["due"], depth["running"], depth["paused"]) == (1, 0, True)
    comments = await sql.fetch(
        "SELECT c.relname, obj_description(c.oid) AS said FROM pg_class c"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'v'"
    )
    assert {row["relname"] for row in comments} == {
        "runs", "run_steps", "run_waits", "queue_depths", "workers", "schedules",
    }  # fmt: skip
    assert all(row["said"] for row in comments)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow`` as people and programs call it: the real command, on a real server."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.replayer import Journal, replay
from tests.waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("forktex-flow"))
SERVICE = """
from forktex_core.flow import Flow, Graph

flow = Flow({url!r}, schema={schema!r})


@flow.step(name="charge")
async def charge(ctx, cents):
    if cents < 0:
        raise ValueError("no [bold]such[/bold] amount")
    return cents


@flow.workflow(name="order")
async def order(ctx, cents: int) -> int:
    paid = await charge(ctx, cents)
    await ctx.wait_signal("approved")
    return paid


review = Graph("review", initial="draft")
review.add_state("draft", manual=True)
review.add_state("done", terminal=True)
review.transition("draft", "done", on="publish")
flow.register_graph(review)
"""


@dataclass
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


type Command = Callable[..., Awaitable[Done]]


async def call(folder: Path, *words: object) -> Done:
    """Run ``forktex-flow``; whatever it says, a traceback is no part of it."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    done = Done(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in done.out + done.err, done
    return done


@pytest.fixture
def folder(tmp_path: Path, postgres, schema) -> Path:
    """A folder with a service in it."""
    (tmp_path / "shop.py").write_text(SERVICE.format(url=postgres.url, schema=schema))
    return tmp_path


@pytest.fixture
def command(folder: Path, postgres, schema) -> Command:
    """Run a command on the database of the test."""

    async def run(*words: object) -> Done:
        return await call(folder, *words, "--database-url", postgres.url, "--schema", schema)

    return run


@pytest.fixture
def shop(folder: Path, monkeypatch) -> Flow:
    """The Flow of the service in this process."""
    import importlib

    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("shop", None)
    return importlib.import_module("shop").flow


async def status_of(flow: Flow, run_id, status: str) -> bool:
    """Whether a run stands so."""
    return (await flow.runs.get(run_id)).status == status


async def test_a_run_from_its_list_to_its_end(shop: Flow, command: Command, serving) -> None:
    """List, show, watch, signal: in words and in JSON."""
    async with serving(shop):
        run_id = await shop.start("order", 5, metadata={"shop": "north"})
        await eventually(lambda: status_of(shop, run_id, "waiting"))
        listed = await command("runs", "list", "--workflow", "order", "--json")
        assert listed.code == 0
        assert [run["id"] for run in listed.json["runs"]] == [str(run_id)]
        assert listed.json["next"] is None
        found = await command("runs", "list", "--metadata", "shop=north", "--created-since", "1h")
        assert str(run_id) in found.out
        assert "signal 'approved'" in found.out
        shown = await command("runs", "show", run_id)
        assert "it waits for signal 'approved' since" in shown.out
        assert "send_signal(run_id, 'approved', …)" in shown.out
        assert "step" in shown.out
        shown = await command("runs", "show", run_id, "--json")
        assert shown.json["run"]["input"] == 5
        assert [f["code"] for f in shown.json["findings"]] == ["waiting_for_signal"]
        assert [e["name"] for e in shown.json["events"] if e["kind"] == "step"] == ["charge"]
        following = asyncio.create_task(command("runs", "watch", run_id, "--json"))
        sent = await command("runs", "signal", run_id, "approved", "--idempotency-key", "k")
        assert (sent.code, sent.out) == (0, "sent\n")
        watched = await following
        events = [json.loads(line) for line in watched.out.splitlines()]
        assert watched.code == 0
        assert (events[0]["kind"], events[-1]["kind"]) == ("created", "ended")
        assert events[-1]["value"] == 5
        again = await command("runs", "signal", run_id, "approved")
        assert again.code == 4
        assert "has succeeded: it takes no signal" in again.err


async def test_runs_are_acted_on(shop: Flow, command: Command, serving) -> None:
    """Pause, resume and cancel do what the library does; of several runs each is told, and one that
    can't be leaves the others alone.
    """
    async with serving(shop):
        first, second = await shop.start_many("order", [1, 2])
        for run_id in (first, second):
            await eventually(lambda run_id=run_id: status_of(shop, run_id, "waiting"))
        stopped = await command("runs", "pause", first, second, "--by", "ada")
        assert stopped.code == 0
        assert stopped.out == f"run {first} is paused\nrun {second} is paused\n"
        assert (await shop.runs.get(first)).paused_by == "ada"
        again = await command("runs", "pause", first, uuid4(), "--json")
        assert again.code == 4
        assert [one["code"] for one in again.json] == [4, 3]
        assert (await command("runs", "resume", first)).code == 0
        ended = await command("runs", "cancel", second, "--reason", "a typo")
        assert ended.out == f"run {second} is asked to stop\n"
        await eventually(lambda: status_of(shop, second, "cancelled"))
        assert "a typo" in str((await shop.runs.get(second)).error)
        assert "had ended already" in (await command("runs", "cancel", second)).out


async def test_runs_begin_again_and_leave_their_history(
    shop: Flow, command: Command, serving, folder
) -> None:
    """Fork, retry and export; watching a run that fails ends with 1."""
    async with serving(shop):
        first = await shop.start("order", 1)
        await eventually(lambda: status_of(shop, first, "waiting"))
        forked = await command("runs", "fork", first, "--from-step", "charge")
        assert forked.code == 0
        assert await eventually(lambda: status_of(shop, forked.out.strip(), "waiting"))
        none = await command("runs", "fork", first, "--from-step", "nope")
        assert (none.code, "no step 'nope'" in none.err) == (3, True)
        exported = await command("runs", "export", first, "--output", folder / "history.json")
        assert exported.code == 0
        journal = Journal.from_json((folder / "history.json").read_text())
        assert (journal.run_id, journal.workflow) == (first, "order")
        order = next(w for w in shop.workflows if w.name == "order")
        assert replay(order, journal).verdict == "fits"
        broken = await shop.start("order", -1)
        watched = await command("runs", "watch", broken)
        assert watched.code == 1
        assert "no [bold]such[/bold] amount" in watched.out
        assert (await command("runs", "retry", broken)).code == 0


async def test_markup_in_values_means_nothing(shop: Flow, command: Command, sql) -> None:
    """What users put into names and errors is shown as it is, and steers no terminal."""
    async with shop:
        await shop.start("order", 1, queue="[red]q[/red]", key="x")
        await sql.execute("UPDATE run SET status = 'failed', finished_at = now(), due_at = NULL")
        error = json.dumps({"type": "E", "message": "a [bold]\x1b[31mred\x07 one"})
        await sql.execute("UPDATE run SET error = $1::text::json", error)
    said = (await command("runs", "list")).out
    assert "[red]q[/red]" in said
    assert "a [bold]�[31mred� one" in said


async def test_pages(shop: Flow, command: Command) -> None:
    """A page's last line leads to the next one, with the same filter and order."""
    async with shop:
        ids = await shop.start_many("order", list(range(5)))
        await shop.start("review", {}, queue="slow")
    first = await command("runs", "list", "--queue", "default", "--limit", 3, "--order", "created")
    cursor = first.out.split("--after ")[1].strip()
    rest = await command(
        "runs", "list", "--queue", "default", "--order", "created", "--after", cursor, "--json"
    )
    assert len(rest.json["runs"]) == 2
    assert {run["id"] for run in rest.json["runs"]} < set(map(str, ids))


async def test_counts_and_summaries(shop: Flow, command: Command) -> None:
    """In words and in JSON, once or again and again."""
    async with shop:
        await shop.start_many("order", list(range(5)))
        await shop.start("review", {}, queue="slow")
    assert (await command("runs", "list", "--count")).out == "6\n"
    assert (await command("runs", "list", "--count", "--json")).json == {"count": 6}
    summary = (await command("runs", "list", "--summary", "--json")).json
    assert (summary["total"], summary["by_queue"]) == (6, {"default": 5, "slow": 1})
    assert "6 runs" in (await command("runs", "list", "--summary")).out
    looks = await command("runs", "watch", "--times", 2, "--interval", 0.05, "--json")
    assert [json.loads(line)["unfinished"] for line in looks.out.splitlines()] == [
        {"pending": 6}
    ] * 2
    assert "6 pending" in (await command("runs", "watch", "--times", 1)).out


async def test_who_works_and_what_there_is(shop: Flow, command: Command, serving) -> None:
    """Workers, the leader, definitions, queues and schedules, in words and in JSON."""
    async with shop:
        nobody = await command("leader")
        assert (nobody.code, nobody.out.startswith("nobody leads (last seen: never)")) == (1, True)
        await shop.queue("slow", concurrency=2, rate=(5, 60))
    async with serving(shop, name="w1"):
        await shop.start("order", 1, queue="slow")
        await shop.schedule("nightly", "order", cron="0 3 * * *", input=1)
        await eventually(lambda: leads(shop))
        leader = await command("leader")
        assert leader.code == 0
        assert "(w1, " in leader.out
        assert (await command("leader", "--json")).json["present"] is True
        (worker,) = (await command("workers", "--json")).json
        assert (worker["name"], worker["leads"], worker["running"]) == ("w1", True, 0)
        assert worker["lanes"] == ["order@1", "review@1"]
        assert "order@1, review@1" in (await command("workers")).out
        served = (await command("definitions", "--json")).json
        assert [(d["workflow"], d["kind"], d["workers"]) for d in served] == [
            ("order", "code", 1), ("review", "graph", 1),
        ]  # fmt: skip
        (queue,) = (await command("queues", "--json")).json
        assert (queue["queue"], queue["due"], queue["concurrency"]) == ("slow", 1, 2)
        assert "2 at a time, 5 in 60 s" in (await command("queues")).out
        (schedule,) = (await command("schedules", "--json")).json
        assert (schedule["name"], schedule["cron"]) == ("nightly", ["0 3 * * *"])
        assert "0 3 * * * UTC" in (await command("schedules")).out
        assert "registered" in (await command("definitions")).out
    ended = (await command("workers", "--ended", 1, "--json")).json
    assert [worker["end_reason"] is not None for worker in ended] == [True]


async def leads(flow: Flow) -> bool:
    """Whether somebody leads."""
    return (await flow.fleet.leader()).present


async def test_graphs_are_drawn(shop: Flow, folder, serving) -> None:
    """In three forms, without a database; and with a run's place in it."""
    app = ("--app", "shop:flow")
    mermaid = await call(folder, "graph", "render", "review", *app)
    assert mermaid.out.startswith("stateDiagram-v2")
    assert (await call(folder, "graph", "render", "review", "--format", "dot", *app)).code == 0
    done = await call(
        folder, "graph", "render", "review", "--format", "svg", "--output", "r.svg", *app
    )
    assert (done.code, (folder / "r.svg").read_text().startswith("<svg")) == (0, True)
    unknown = await call(folder, "graph", "render", "revue", *app)
    assert (unknown.code, "it registers review" in unknown.err) == (3, True)
    async with serving(shop):
        run_id = await shop.start("review", {})
        await eventually(lambda: shop.graph_position(run_id))
        placed = await call(folder, "graph", "render", "review", "--run", run_id, *app)
    assert placed.code == 0
    assert placed.out != mermaid.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("runs show {id}", 3, "there is no run {id}"),
        ("runs watch {id}", 3, "there is no run {id}"),
        ("runs export {id}", 3, "there is no run {id}"),
        ("runs cancel {id}", 3, "there is no run {id}"),
        ("runs signal {id} go", 3, "there is no run {id}"),
        ("runs signal {id} go --payload {{", 2, "--payload is JSON"),
        ("runs signal {id} $cancel", 2, "names that begin with '$' are the engine's"),
        ("runs show 17", 2, "'17' is not a valid UUID"),
        ("runs list --status done", 2, "'done' is not one of"),
        ("runs list --after nonsense", 2, "the cursor is malformed"),
        ("runs list --metadata order", 2, "neither KEY=VALUE nor a JSON object"),
        ("runs list --metadata {{x", 2, "--metadata"),
        ("runs list --created-since yesterday", 2, "'yesterday' is no moment"),
        ("runs list --limit 0", 2, "--limit"),
        ("runs list --worker none", 2, "--worker"),
        ("runs list --error ", 2, "error_contains is a text"),
        ("runs lst", 2, "No such command 'lst'"),
        ("graph render @none/x", 3, ""),
    ],
)  # fmt: skip
async def test_bad_input_is_one_clear_line(
    command: Command, flow: Flow, words, code, message
) -> None:
    """With the right exit code, and no traceback."""
    async with flow:
        pass
    run_id = uuid4()
    done = await command(*(word.format(id=run_id) for word in words.split(" ")))
    assert (done.code, done.out) == (code, "")
    assert message.format(id=run_id) in done.err


async def test_databases_that_are_not_there(folder, postgres, schema, sql, flow: Flow) -> None:
    """No server, no such database, no Flow in it, one of an older release: exit code 5, and nothing
    is made or migrated by looking.
    """
    gone = await call(folder, "runs", "list", "--database-url", "postgresql://a:s@127.0.0.1:1/x")
    assert (gone.code, "127.0.0.1:1/x" in gone.err, "a:s" in gone.err) == (5, True, False)
    none = await call(folder, "workers", "--database-url", postgres.named("nowhere").url)
    assert none.code == 5
    empty = await call(folder, "doctor", "--database-url", postgres.url, "--schema", schema)
    assert (empty.code, f"no Flow in schema '{schema}'" in empty.err) == (5, True)
    assert not await sql.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema)
    async with flow:
        pass
    await sql.execute("DELETE FROM migration WHERE number = (SELECT max(number) FROM migration)")
    old = await call(folder, "runs", "list", "--database-url", postgres.url, "--schema", schema)
    assert (old.code, "run forktex-flow migrate first" in old.err) == (5, True)
    await sql.execute("INSERT INTO migration (number, name) VALUES (9999, 'later')")
    new = await call(folder, "runs", "list", "--database-url", postgres.url, "--schema", schema)
    assert (new.code, "upgrade forktex-core here" in new.err) == (5, True)


async def test_a_url_may_come_from_a_file(folder, postgres, schema) -> None:
    """For command lines are no secret; and an app says by itself which Flow it is."""
    (folder / "url").write_text(f"{postgres.url}\n")
    migrated = await call(folder, "migrate", "shop:flow")
    assert (migrated.code, migrated.out) == (0, f"schema {schema} is up to date\n")
    for words in (["--app", "shop:flow"], ["--database-url", "@url", "--schema", schema]):
        assert (await call(folder, "runs", "list", *words)).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--database-url @nowhere", "nowhere can't be read"),
        ("--database-url mysql://x/y", "--database-url: a Flow needs a URL like"),
        ("", "say which Flow"),
        ("--app shop:flow --database-url x", "say which Flow"),
        ("--app shop:flow --schema x", "an app has its own"),
        ("--app shop", "is not of the form package.module:flow"),
        ("--app nope:flow", "No module named 'nope'"),
        ("--app shop:order", "has no Flow named 'order'"),
    ],
)
async def test_a_flow_is_named_in_one_way(folder, words, message) -> None:
    """An app or a database; anything else is a wrong command line."""
    done = await call(folder, "runs", "list", *words.split())
    assert (done.code, message in done.err) == (2, True), done


async def test_an_interrupt_has_its_own_code(flow: Flow, folder, postgres, schema) -> None:
    """A Ctrl-C while watching ends with 130, and says nothing more."""
    async with flow:
        pass
    words = ["runs", "watch", "--json", "--database-url", postgres.url, "--schema", schema]
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 30)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (130, b"")


def test_help_is_light() -> None:
    """``--help`` and completion load neither what draws tables nor what serves: only click and what
    ``import forktex_core.flow`` brings.
    """
    source = (
        "import sys, json\nfrom forktex_core.flow.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"rich", "pydantic", "sqlalchemy", "uvloop", "cronsim"}
    ours = {name for name in loaded if name.startswith("forktex_core.flow.cli.")}
    assert ours == {"forktex_core.flow.cli.lazy"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion(folder, shell: str) -> None:
    """The script is printed, and what it calls completes commands and options."""
    script = await call(folder, "completion", shell)
    assert script.code == 0
    assert "_FORKTEX_FLOW_COMPLETE" in script.out
    done = subprocess.run(
        [PROGRAM], capture_output=True, text=True, check=True,
        env={"_FORKTEX_FLOW_COMPLETE": "bash_complete", "COMP_WORDS": "forktex-flow runs ca",
             "COMP_CWORD": "2"},
    )  # fmt: skip
    assert done.stdout == "plain,cancel\n"

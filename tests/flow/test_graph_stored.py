# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs in the database are workflows like others: as children, by schedules, with a codec, and
without session locks.
"""

import base64
import zlib
from typing import Any

import pytest

from forktex_core.flow import Flow, FlowContext, Library, RunFailed, UnknownWorkflowError
from forktex_core.flow.graph import stored
from tests.flow.test_graph_definitions import library as stamps
from tests.flow.test_graph_definitions import order
from tests.flow.test_graph_walk import at
from tests.waiting import eventually

library = Library(actions={"stamp": stamps.get("action", "stamp")})


@library.action
async def delegate(ctx: Any, payload: Any) -> Any:
    """Run another stored graph, in the version that the payload names."""
    return await ctx.run_child("@acme/order", payload, version=payload["version"])


PARENT = """{"name": "parent", "initial": "hand over", "states": {
    "hand over": {"action": "delegate", "on_error": "trouble"}, "trouble": {"terminal": true},
    "end": {"terminal": true}}, "transitions": [{"from": "hand over", "to": "end"}]}"""


async def saved(flow: Flow) -> None:
    """Save and activate a graph that waits in 'a', and one that runs it as its child."""
    for graph in (order("a"), PARENT):
        await flow.definitions.save("acme", graph)
    for name in ("order", "parent"):
        await flow.definitions.activate("acme", name, 1)


async def the_child(flow: Flow, sql: Any, parent: Any) -> Any:
    """Wait until the child of a run rests in 'a'; return its id."""
    child = await eventually(
        lambda: sql.fetchval("SELECT id FROM run WHERE parent_id = $1", parent)
    )
    await at(flow, child, "a")
    return child


async def test_a_stored_graph_is_the_child_of_a_workflow_and_of_a_graph(
    flow: Flow, serving, sql
) -> None:
    """Both start it by name and version, and get its payload; without a version they are told."""

    @flow.workflow(name="delegating")
    async def delegating(ctx: FlowContext, version: int | None) -> Any:
        return await ctx.run_child("@acme/order", {"by": "workflow"}, version=version)

    flow.serve_graphs(library)
    async with serving(flow):
        await saved(flow)
        await flow.definitions.save("acme", order("b"))
        await flow.definitions.activate("acme", "order", 2)
        runs = [await flow.start("delegating", 1)]
        runs.append(await flow.start("@acme/parent", {"by": "graph", "version": 1}))
        for run_id in runs:
            await flow.send_signal(await the_child(flow, sql, run_id), "next", {"n": 7})
        found = [await flow.result(run_id, timeout=10) for run_id in runs]
        assert [f["by"] for f in found] == ["workflow", "graph"]
        assert all(f["n"] == 7 and f["stamped"] for f in found)
        with pytest.raises(RunFailed, match="@acme/order") as caught:
            await flow.run("delegating", None, timeout=10)
        assert isinstance(caught.value, UnknownWorkflowError)
        trouble = await flow.run("@acme/parent", {"version": None}, timeout=10)
        assert trouble["error"]["state"] == "hand over"
        assert "@acme/order" in trouble["error"]["message"]


async def test_cancelling_the_parent_cancels_the_stored_child(flow: Flow, serving, sql) -> None:
    """As with any child."""
    flow.serve_graphs(library)
    async with serving(flow):
        await saved(flow)
        parent = await flow.start("@acme/parent", {"version": 1})
        child = await the_child(flow, sql, parent)
        await flow.cancel(parent)
        statuses = "SELECT status FROM run WHERE id = ANY($1)"

        async def ended() -> bool:
            rows = await sql.fetch(statuses, [parent, child])
            return {row["status"] for row in rows} == {"cancelled"}

        await eventually(ended)


async def test_a_schedule_starts_the_version_that_is_active_then(
    flow: Flow, serving, sql, caplog
) -> None:
    """A schedule names no version: what is activated later is what it starts later; while the graph
    is retired it starts nothing, and says so.
    """
    flow.serve_graphs(library)
    async with serving(flow):
        await saved(flow)
        await flow.schedule("often", "@acme/order", every=1, overlap="allow", input={"s": 1})
        versions = "SELECT DISTINCT version FROM run WHERE workflow = '@acme/order'"
        await eventually(lambda: sql.fetchval(versions))
        await flow.definitions.save("acme", order("b"))
        await flow.definitions.activate("acme", "order", 2)

        async def both() -> bool:
            return {row["version"] for row in await sql.fetch(versions)} == {1, 2}

        await eventually(both)
        await flow.definitions.retire("acme", "order")
        await eventually(lambda: "or it is retired" in caplog.text)
        await flow.delete_schedule("often")
        rows = await sql.fetch("SELECT id, version FROM run ORDER BY version")
        for row in (rows[0], rows[-1]):
            await at(flow, row["id"], {1: "a", 2: "b"}[row["version"]])
            await flow.send_signal(row["id"], "next")
            assert await flow.result(row["id"], timeout=10) == {"s": 1, "stamped": True}


def encode(text: str) -> str:
    """Return a text that nobody reads."""
    return base64.b64encode(zlib.compress(text.encode())).decode()


def decode(text: str) -> str:
    """Return what encode() was given."""
    return zlib.decompress(base64.b64decode(text)).decode()


async def test_payloads_and_positions_go_through_the_codec(postgres, schema, serving, sql) -> None:
    """Nothing of a payload stands in the tables; reading, moving and going on work as ever."""
    flow = Flow(postgres.url, schema=schema, codec=(encode, decode))
    flow.serve_graphs(library)
    async with serving(flow, warm=0):
        await saved(flow)
        await flow.definitions.save("acme", order("b"))
        parent = await flow.start("@acme/parent", {"secret": "tulip", "version": 1})
        child = await the_child(flow, sql, parent)
        assert (await flow.graph_position(child)).payload["secret"] == "tulip"

        async def migrate(*, dry_run: bool) -> Any:
            move = flow.definitions.migrate_runs
            return await move(
                "@acme/order", 1, 2, state_map={"a": "b"}, dry_run=dry_run,
                payload=lambda payload: {**payload, "moved": "tulip"},
            )  # fmt: skip

        async def rests() -> bool:
            return bool((await migrate(dry_run=True)).moved)

        await eventually(rests)
        report = await migrate(dry_run=False)
        assert (report.moved, report.stuck) == ([child], {})
        await at(flow, child, "b")
        await flow.send_signal(child, "next", {"word": "tulip"})
        found = await flow.result(parent, timeout=10)
        assert (found["moved"], found["word"], found["stamped"]) == ("tulip", "tulip", True)
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = $1"
    for row in await sql.fetch(tables, schema):
        texts = await sql.fetch(f'SELECT t::text AS line FROM "{row["table_name"]}" t')
        assert not [t["line"] for t in texts if "tulip" in t["line"]], row["table_name"]


async def test_stored_graphs_work_without_session_locks(postgres, schema, serving, sql) -> None:
    """pooled=True: a version that is activated later is picked up all the same."""
    flow = Flow(postgres.url, schema=schema, pooled=True)
    flow.serve_graphs(library)
    async with serving(flow):
        await saved(flow)
        parent = await flow.start("@acme/parent", {"version": 1})
        child = await the_child(flow, sql, parent)
        await flow.send_signal(child, "next")
        assert (await flow.result(parent, timeout=20))["stamped"]
        assert (await at(flow, child, "end"))["path"] == ["a", "end"]


async def test_a_graph_is_read_once_and_those_used_least_are_let_go(monkeypatch) -> None:
    """What is compiled is not read again, until others have taken its place."""
    read: list[int] = []

    async def fetch(namespace: str, name: str, version: int) -> str:
        read.append(version)
        return order("a").to_json(library)

    monkeypatch.setattr(stored, "_MOST", 2)
    graphs = stored.StoredGraphs(library, fetch)
    for version in (1, 1, 2, 1, 3, 1, 2):
        assert (await graphs.load("@acme/order", version)).version == version
    assert read == [1, 2, 3, 2]
    assert graphs.compiled == 2

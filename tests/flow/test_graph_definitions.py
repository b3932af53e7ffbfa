# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs in the database: versions, activation, workers that pick them up, live runs that move."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from forktex_core.flow import (
    DefinitionError,
    Flow,
    Graph,
    GraphConflictError,
    GraphError,
    GraphNotFoundError,
    Library,
    PayloadError,
    RunFinishedError,
    RunHalted,
)
from tests.flow.test_graph_walk import at
from tests.waiting import eventually

library = Library()


@library.action
async def stamp(ctx: Any, payload: Any) -> Any:
    return {**payload, "stamped": True}


def order(*middle: str, **options: Any) -> Graph:
    """Return a graph that waits in each state of the middle for 'next'."""
    g = Graph("order", initial=middle[0], **options)
    for state in middle:
        g.add_state(state, manual=True)
    g.add_state("end", stamp, terminal=True)
    for source, target in zip(middle, [*middle[1:], "end"], strict=True):
        g.transition(source, target, on="next")
    return g


async def test_a_running_worker_picks_up_what_is_activated_later(flow: Flow, serving) -> None:
    """Save and activate while a worker runs: new runs get it at once; old runs stay on theirs."""
    flow.serve_graphs(library)
    async with serving(flow):
        assert await flow.definitions.save("acme", order("a")) == 1
        with pytest.raises(DefinitionError, match="is not active"):
            await flow.start("@acme/order", {})
        await flow.definitions.activate("acme", "order", 1)
        first = await flow.start("@acme/order", {"n": 1})
        await at(flow, first, "a")
        assert await flow.definitions.save("acme", order("x", "y")) == 2
        await flow.definitions.activate("acme", "order", 2, expected=1)
        second = await flow.start("@acme/order", {"n": 2})
        await at(flow, second, "x")
        for run_id, signals in ((first, 1), (second, 2)):
            for _ in range(signals):
                await flow.send_signal(run_id, "next")
            assert (await flow.result(run_id, timeout=10))["stamped"]
        assert (await at(flow, first, "end"))["path"] == ["a", "end"]
        assert (await at(flow, second, "end"))["path"] == ["x", "y", "end"]
        shown = await flow.graph_position(second)
        assert (shown.state, shown.taken) == ("end", 2)
        await flow.definitions.retire("acme", "order")
        with pytest.raises(DefinitionError, match="is not active"):
            await flow.start("@acme/order", {})
        with pytest.raises(RunFinishedError, match="has succeeded"):
            await flow.send_signal(first, "next")
        with pytest.raises(DefinitionError, match="begin with '@'"):
            flow.workflow(name="@acme/order")(stamp_workflow)


async def stamp_workflow(ctx: Any) -> None:
    """A workflow with a name that is not for workflows."""


async def test_namespaces_keep_their_graphs_to_themselves(flow: Flow) -> None:
    """Another namespace's graph isn't there: not to get, list, activate, diff or start."""
    flow.serve_graphs(library)
    async with flow:
        await flow.definitions.save("acme", order("a"))
        await flow.definitions.activate("acme", "order", 1)
        assert await flow.definitions.list("other") == []
        for asked in (
            flow.definitions.get("other", "order"),
            flow.definitions.diff("other", "order", 1, 1),
            flow.definitions.activate("other", "order", 1),
            flow.definitions.retire("other", "order"),
            flow.start("@other/order", {}),
            flow.definitions.get("acme", "order", 7),
            flow.definitions.activate("acme", "order", 7),
        ):
            with pytest.raises(GraphNotFoundError):
                await asked
        for namespace in ("", "a/b", "../acme", "a b", "x" * 101):
            with pytest.raises(DefinitionError, match="namespace"):
                await flow.definitions.list(namespace)
        [found] = await flow.definitions.list("acme")
        assert (found.name, found.latest, found.active) == ("order", 1, 1)


async def test_an_update_that_lost_a_race_changes_nothing(flow: Flow, sql) -> None:
    """Of many who save from the same version one wins; the others are told, and nothing is there of
    theirs. Versions can't be changed behind the library's back either.
    """
    flow.serve_graphs(library)
    async with flow:
        graphs = flow.definitions
        await graphs.save("acme", order("a"), expected=0)
        done = await asyncio.gather(
            *(graphs.save("acme", order(f"s{n}"), expected=1) for n in range(8)),
            return_exceptions=True,
        )
        assert done.count(2) == 1
        lost = [e for e in done if e != 2]
        assert all(isinstance(e, GraphConflictError) and e.found == 2 for e in lost)
        [found] = await graphs.list("acme")
        assert found.latest == 2
        with pytest.raises(GraphConflictError, match="is at version None, not 1"):
            await graphs.activate("acme", "order", 2, expected=1)
        assert (await graphs.list("acme"))[0].active is None
        with pytest.raises(GraphError, match="dead end"):
            await graphs.save("acme", '{"name":"order","initial":"a","states":{"a":{}}}')
        with pytest.raises(asyncpg.CheckViolationError, match="never changes"):
            await sql.execute("UPDATE graph_version SET document = '{}'")


async def test_a_diff_names_states_and_transitions(flow: Flow) -> None:
    """What was added, removed and changed, by path; transitions by what they are."""
    flow.serve_graphs(library)
    async with flow:
        await flow.definitions.save("acme", order("a", "b"))
        await flow.definitions.save("acme", order("a", "c", max_transitions=5))
        found = await flow.definitions.diff("acme", "order", 1, 2)
        assert set(found.added) == {
            "/max_transitions", "/states/c", "/transitions/a -> c next",
            "/transitions/c -> end next",
        }  # fmt: skip
        assert set(found.removed) == {
            "/states/b", "/transitions/a -> b next", "/transitions/b -> end next",
        }  # fmt: skip
        assert found.changed == []


async def test_live_runs_move_to_another_version(flow: Flow, serving) -> None:
    """Those that rest in a state with a counterpart move, with a new payload; the rest is reported;
    a dry run changes nothing.
    """
    flow.serve_graphs(library)
    async with serving(flow):
        graphs = flow.definitions
        for version in (order("a", "b", "gone"), order("start", "b", "last")):
            await graphs.save("acme", version)
        await graphs.activate("acme", "order", 1)
        runs = [await flow.start("@acme/order", {"n": n}) for n in range(4)]
        later = await flow.start("@acme/order", {}, delay=3600)
        for number, state in enumerate(("a", "b", "gone")):
            for _ in range(number):
                await flow.offer_signal(runs[number], "next", timeout=10)
            await at(flow, runs[number], state)
        await at(flow, runs[3], "a")

        async def rest() -> bool:  # a position is shown a moment before its run waits there
            waiting = flow.runs.where(workflow="@acme/order", status="waiting")
            return await waiting.count() == len(runs)

        await eventually(rest)

        def renamed(payload: Any) -> Any:
            if payload["n"] == 3:
                raise ValueError("three is odd")
            return {"number": payload["n"]}

        how = {"state_map": {"a": "start"}, "payload": renamed}
        for dry in (True, False):
            report = await graphs.migrate_runs("@acme/order", 1, 2, dry_run=dry, **how)
            assert report.moved == runs[:2]
            assert report.stuck == {
                runs[2]: "version 2 has no state 'gone'",
                runs[3]: "its payload can't be taken over: three is odd",
                later: "it does not rest in a state",
            }
        await at(flow, runs[0], "start")
        for run_id, signals in ((runs[0], 3), (runs[1], 2), (runs[2], 1)):
            for _ in range(signals):
                await flow.send_signal(run_id, "next")
        assert await flow.result(runs[0], timeout=10) == {"number": 0, "stamped": True}
        assert await flow.result(runs[1], timeout=10) == {"number": 1, "stamped": True}
        assert await flow.result(runs[2], timeout=10) == {"n": 2, "stamped": True}
        assert (await at(flow, runs[0], "end"))["path"] == ["a", "start", "b", "last", "end"]


async def test_a_run_that_went_on_meanwhile_does_not_move(flow: Flow, serving) -> None:
    """Between looking and moving a run took a signal: nothing of it is changed."""
    flow.serve_graphs(library)
    async with serving(flow):
        await flow.definitions.save("acme", order("a", "b"))
        await flow.definitions.activate("acme", "order", 1)
        run_id = await flow.start("@acme/order", {})
        await at(flow, run_id, "a")
        store = flow._open.graphs

        async def rests() -> Any:
            [row] = await store.runs_of_version("@acme/order", 1, UUID(int=0))
            return row if row["status"] == "waiting" else None

        seen = await eventually(rests)
        await flow.send_signal(run_id, "next")
        await at(flow, run_id, "b")
        now = await eventually(rests)
        for claim, seq in ((seen["claim"], seen["seq"]), (now["claim"], seen["seq"])):
            done = await store.move_run(run_id, claim, seq, 2, "@graphs", "{}")
            assert done["outcome"] == "moved"
        await flow.send_signal(run_id, "next")
        assert await flow.result(run_id, timeout=10) == {"stamped": True}


async def test_a_run_that_went_on_while_it_was_moved_is_told(flow: Flow, serving, postgres) -> None:
    """Somebody else got hold of it after it was looked at: it stays, and is in the report."""
    flow.serve_graphs(library)

    async def pause(run_id: UUID) -> None:
        async with Flow(postgres.url, schema=flow.schema) as other:
            await other.pause(run_id)

    async with serving(flow):
        for version in (order("a"), order("a", "b")):
            await flow.definitions.save("acme", version)
        await flow.definitions.activate("acme", "order", 1)
        run_id = await flow.start("@acme/order", {})
        await at(flow, run_id, "a")

        def meanwhile(payload: Any) -> Any:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, pause(run_id)).result()
            return payload

        async def rests() -> bool:
            return (await flow.runs.get(run_id)).status == "waiting"

        await eventually(rests)
        report = await flow.definitions.migrate_runs("@acme/order", 1, 2, payload=meanwhile)
        assert (report.moved, report.stuck) == ([], {run_id: "it went on meanwhile"})
        await flow.resume(run_id)
        await flow.send_signal(run_id, "next")
        await flow.result(run_id, timeout=10)
        assert (await at(flow, run_id, "end"))["path"] == ["a", "end"]


async def test_a_worker_without_the_names_halts_the_run(flow: Flow, serving, postgres) -> None:
    """A process whose library lacks a name halts the run with the reason; resumed elsewhere, it
    goes on.
    """
    flow.serve_graphs(Library())
    other = Flow(postgres.url, schema=flow.schema)
    other.serve_graphs(library)
    async with other:
        await other.definitions.save("acme", order("a"))
        await other.definitions.activate("acme", "order", 1)
        async with serving(flow):
            run_id = await other.start("@acme/order", {})
            with pytest.raises(RunHalted, match="there is no action 'stamp'"):
                await other.result(run_id, timeout=10)
        async with serving(other):
            await other.resume(run_id)
            await other.send_signal(run_id, "next")
            assert await other.result(run_id, timeout=10) == {"stamped": True}


async def test_only_what_is_used_is_compiled(flow: Flow, serving) -> None:
    """Graphs that nobody starts take no memory; a page of them reads no document."""
    flow.serve_graphs(library)
    async with serving(flow):
        for number in range(20):
            graph = order("a")
            graph.name = f"g{number:02}"
            await flow.definitions.save("acme", graph)
        await flow.definitions.activate("acme", "g03", 1)
        page = await flow.definitions.list("acme", after="g03", limit=5)
        assert [g.name for g in page] == ["g04", "g05", "g06", "g07", "g08"]
        await at(flow, await flow.start("@acme/g03", {}), "a")
        assert flow._registry.stored.compiled == 1
        with pytest.raises(PayloadError, match="engine's own"):
            await flow.start("@acme/g03", {"$graph": {"state": "end", "payload": {}}})

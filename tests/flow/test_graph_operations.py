# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A graph's run is a workflow's run: what operators have for one, they have for the other."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from forktex_core.flow import Flow, Graph, RunCancelled, RunFailed, RunFinishedError
from forktex_core.flow.audit import Manifest, audit
from forktex_core.flow.inflight import replay_in_flight
from forktex_core.flow.replayer import Journal, Replayer
from tests.conftest import Database
from tests.flow.test_graph_walk import at
from tests.waiting import eventually

type Step = Callable[[], Any]


def served(flow: Flow, step: str = "charge", fails: Step = lambda: False, most: int = 9) -> Flow:
    """Register an order that is charged, waits to be approved, and is charged again."""

    @flow.step(name=step)
    async def charge(ctx, cents: int) -> int:
        if fails():
            raise ValueError("no money")
        return cents

    @flow.step
    async def last(ctx, cents: int) -> int:
        return cents

    g = Graph("order", initial="open", max_transitions=most)

    @g.state("open", manual=True)
    async def open_(ctx, payload):
        return {**payload, "paid": await charge(ctx, payload["cents"])}

    @g.state("closed", terminal=True)
    async def closed(ctx, payload):
        return {**payload, "again": await last(ctx, payload["cents"])}

    g.transition("open", "closed", on="approve")
    flow.register_graph(g)
    return flow


async def rests(flow: Flow, run_id: UUID) -> None:
    """Wait until a run waits."""

    async def waits() -> bool:
        return (await flow.runs.get(run_id)).status == "waiting"

    await eventually(waits)


async def test_a_graphs_run_is_inspected_as_any(flow: Flow, serving) -> None:
    """It is found and counted, it is said why it rests, and what it did stands in its timeline."""
    async with serving(served(flow)):
        run_id = await flow.start("order", {"cents": 5}, metadata={"customer": 7})
        await rests(flow, run_id)
        found = flow.runs.where(workflow="order", status="waiting", metadata={"customer": 7})
        assert await found.count() == 1
        [reason] = [f for f in await flow.runs.explain(run_id) if f.code == "waiting_for_signal"]
        assert "'approve'" in reason.sentence
        steps = [e.name for e in (await flow.runs.timeline(run_id)).events if e.kind == "step"]
        assert steps == ["charge"]
        await flow.pause(run_id)
        await flow.send_signal(run_id, "approve")
        assert (await flow.runs.get(run_id)).status == "paused"
        await flow.resume(run_id)
        assert (await flow.result(run_id, timeout=10))["again"] == 5
        with pytest.raises(RunFinishedError):
            await flow.pause(run_id)


async def test_a_graphs_run_is_mended_as_any(flow: Flow, serving) -> None:
    """One that failed is tried again where it failed, rewound and cancelled; its twin goes on."""
    poor = [True]
    async with serving(served(flow, fails=lambda: bool(poor))):
        run_id = await flow.start("order", {"cents": 5})
        with pytest.raises(RunFailed, match="no money"):
            await flow.result(run_id, timeout=10)
        poor.clear()
        await flow.retry(run_id)
        await at(flow, run_id, "open")
        await rests(flow, run_id)
        twin = await flow.fork(run_id, from_step="charge")
        await flow.rewind(run_id, "charge")
        await rests(flow, run_id)
        await flow.cancel(run_id)
        with pytest.raises(RunCancelled):
            await flow.result(run_id, timeout=10)
        await flow.send_signal(twin, "approve", {"by": "ada"})
        assert await flow.result(twin, timeout=10) == {
            "cents": 5, "paid": 5, "again": 5, "by": "ada",
        }  # fmt: skip


async def test_a_graphs_run_is_audited_as_any(
    flow: Flow, serving, postgres: Database, schema: str
) -> None:
    """A change without a version is told; the run in flight, and its exported journal, diverge from
    a function with another step, and not from the code that wrote them.
    """
    async with serving(served(flow)):
        run_id = await flow.start("order", {"cents": 5})
        await rests(flow, run_id)
        journal = Journal.from_json(await flow.history(run_id))
    changed = served(Flow(postgres.url, schema=schema), step="bill", most=8)
    seen = []
    for code in (flow, changed):
        [running] = [r async for r in replay_in_flight(code, postgres.url)]
        [exported] = [Replayer(code.workflows).replay(journal)]
        assert running.verdict == exported.verdict
        seen.append(running.verdict)
    assert seen == ["fits", "diverges"]
    manifest = audit(flow, Manifest()).updated(Manifest())
    told = [audit(code, manifest).of_kind("changed") for code in (flow, changed)]
    assert [[d.lane for d in differences] for differences in told] == [[], ["order@1"]]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs: validation, guards, cycles, signals."""

import pytest

from forktex_core.flow import (
    DefinitionError,
    Flow,
    Graph,
    GraphLimitError,
    NoTransitionError,
    RunFailed,
)


def test_every_problem_is_named_at_once(flow: Flow) -> None:
    """Registration refuses a graph with all that is wrong with it in one message."""
    g = Graph("bad", initial="nowhere")

    @g.state("a")
    async def a(ctx, payload):
        return payload

    @g.state("end", terminal=True)
    async def end(ctx, payload):
        return payload

    g.transition("end", "a")
    g.transition("a", "missing", on="go")
    with pytest.raises(DefinitionError) as caught:
        flow.register_graph(g)
    for part in (
        "initial state 'nowhere' is not defined",
        "state 'missing' is not defined",
        "leaves a terminal state",
        "waits for 'go', but the state is not manual",
        "state 'a' can't be reached",
    ):
        assert part in str(caught.value)
    with pytest.raises(DefinitionError, match="has a state 'a' already"):
        g.state("a")
    with pytest.raises(DefinitionError, match="both manual and terminal"):
        g.state("b", manual=True, terminal=True)


async def test_guards_signals_and_cycles(flow: Flow, serving) -> None:
    """The first guard that holds is taken; a signal no guard takes changes nothing; cycles are
    bounded.
    """
    g = Graph("count", initial="count", max_transitions=20)

    @g.state("count")
    async def count(ctx, payload):
        return {**payload, "n": payload["n"] + 1}

    @g.state("ask", manual=True)
    async def ask(ctx, payload):
        return payload

    @g.state("done", terminal=True)
    async def done(ctx, payload):
        return payload

    g.transition("count", "ask", when=lambda p: p["n"] >= p["to"])
    g.transition("count", "count", when=lambda p: p["n"] >= 0)
    g.transition("ask", "done", on="approve", when=lambda p: p.get("by") == "boss")
    flow.register_graph(g)
    async with serving(flow):
        run_id = await flow.start("count", {"n": 0, "to": 5})
        await flow.send_signal(run_id, "approve", {"by": "intern"})
        await flow.send_signal(run_id, "approve", {"by": "boss"})
        assert await flow.result(run_id, timeout=10) == {"n": 5, "to": 5, "by": "boss"}
        with pytest.raises(RunFailed, match="more than 20 transitions") as caught:
            await flow.run("count", {"n": 0, "to": 99}, timeout=10)
        assert isinstance(caught.value, GraphLimitError)
        with pytest.raises(RunFailed, match="no transition out of state 'count'") as caught:
            await flow.run("count", {"n": -9, "to": 99}, timeout=10)
        assert isinstance(caught.value, NoTransitionError)

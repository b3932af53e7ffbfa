# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The graphs that are crashed: a cycle that continues as new before a manual state and a timeout,
and a sub-graph, one that is left early by its timer, and a fork whose regions are joined.
"""

from typing import Any

from forktex_core.flow import Flow, FlowContext, Graph

# What the regions come to: each gets what the sub-graph returned.
REGIONS = {"n": 2, "left": {"n": 3}, "right": {"n": 2, "r": 1}}


def register_graphs(flow: Flow, effect: Any) -> None:
    """Give a Flow both; ``effect`` is the step that leaves an effect."""

    async def add(ctx: FlowContext, payload: Any) -> Any:
        await effect(ctx, payload["n"])
        return {**payload, "n": payload["n"] + 1}

    async def act(ctx: FlowContext, payload: Any) -> None:
        await effect(ctx, -1)

    flow.register_graph(_cycle(add, act))
    flow.register_graph(_regions(add, act))


def _cycle(add: Any, act: Any) -> Graph:
    g = Graph("cycle", initial="count", continue_after=2, unhandled="defer")
    g.add_state("count", add, exit=act)
    g.add_state("ask", manual=True, entry=act)
    g.add_state("late", manual=True, timeout=0.05, on_error="over")
    g.add_state("over", terminal=True)
    g.transition("count", "ask", when="payload.n == 5")
    g.transition("count", "count", when="payload.n < 5")
    g.transition("ask", "late", on="go", action=act)
    g.transition("late", "over", on="never")
    g.states["over"].function = _without_error
    return g


async def _without_error(ctx: FlowContext, payload: Any) -> Any:
    return {key: value for key, value in payload.items() if key != "error"}


def _regions(add: Any, act: Any) -> Graph:
    g = Graph("regions", initial="inside")
    g.subgraph("inside", _row("inside", add), exit=act)
    g.subgraph("stuck", _waiting("stuck", "never", act))
    g.fork("both", {"left": _row("left", add), "right": _waiting("right", "right", act)})
    g.add_state("over", terminal=True)
    g.transition("inside", "stuck")
    g.transition("stuck", "both", after=0.05)
    g.transition("stuck", "both")
    g.transition("both", "over")
    return g


def _row(name: str, add: Any) -> Graph:
    g = Graph(name, initial="a")
    g.add_state("a", add)
    g.add_state("b", terminal=True)
    g.transition("a", "b")
    return g


def _waiting(name: str, signal: str, act: Any) -> Graph:
    g = Graph(name, initial="a")
    g.add_state("a", manual=True, exit=act)
    g.add_state("b", terminal=True)
    g.transition("a", "b", on=signal)
    return g

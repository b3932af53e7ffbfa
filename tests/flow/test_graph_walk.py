# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Walking graphs: actions, errors, timers, policies, sub-graphs, forks, histories, long runs.

The workers keep nothing warm, so each signal and timer brings a run back from its journal.
"""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel

from forktex_core.flow import (
    ConditionError,
    Flow,
    Graph,
    PayloadError,
    Retry,
    RunFailed,
    StateTimeoutError,
)
from forktex_core.flow.graph.walk import POSITION
from tests.waiting import eventually


def line(name: str, *states: str, **options: Any) -> Graph:
    """Return a graph of automatic states in a row, the last one terminal."""
    g = Graph(name, initial=states[0], **options)
    for state in states:
        g.add_state(state, terminal=state == states[-1])
    for source, target in pairwise(states):
        g.transition(source, target)
    return g


async def at(flow: Flow, run_id: Any, state: str) -> dict[str, Any]:
    """Wait until a run rests in a state; return its position."""

    async def there() -> Any:
        found = await flow.published(run_id, POSITION)
        return found if found and found["state"] == state else None

    return await eventually(there)


async def test_entry_exit_and_transition_actions_run_in_order(flow: Flow, serving) -> None:
    """Entry, function, exit, the transition's action, the next entry: once each, also in a loop."""
    seen: list[str] = []

    def note(what: str) -> Any:
        async def action(ctx, payload):
            async def record() -> str:
                seen.append(what)
                return what

            await ctx.step(record)
            return payload

        return action

    g = Graph("actions", initial="a")
    g.add_state("a", note("a"), entry=note("+a"), exit=note("-a"), manual=True)
    g.add_state("z", note("z"), entry=note("+z"), exit=note("-z"), terminal=True)
    g.transition("a", "a", on="again", action=note("again"))
    g.transition("a", "a", on="touch", internal=True, action=note("touch"))
    g.transition("a", "z", on="go")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("actions", {})
        for signal in ("again", "touch", "go"):
            await flow.send_signal(run_id, signal)
        await flow.result(run_id, timeout=10)
    assert seen == ["+a", "a", "-a", "again", "+a", "a", "touch", "-a", "+z", "z", "-z"]


async def test_priorities_decide_before_the_order_of_definition(flow: Flow, serving) -> None:
    """The highest priority whose guard holds is taken; CEL guards see payload and metadata."""
    g = Graph("priorities", initial="a")
    for name in ("low", "high", "highest"):
        g.add_state(name, terminal=True)
    g.add_state("a", _named("a"))
    for name in ("low", "high", "highest"):
        g.states[name].function = _named(name)
    g.transition("a", "low")
    g.transition("a", "high", when="payload.n > 1", priority=1)
    g.transition("a", "highest", when="metadata.vip == true && payload.n > 1", priority=2)
    flow.register_graph(g)
    async with serving(flow, warm=0):
        assert (await flow.run("priorities", {"n": 1}, timeout=10))["at"] == "low"
        vip = {"metadata": {"vip": True}}
        assert (await flow.run("priorities", {"n": 2}, timeout=10, **vip))["at"] == "highest"
        with pytest.raises(RunFailed, match="there is no 'vip'") as caught:
            await flow.run("priorities", {"n": 2}, timeout=10)
        assert isinstance(caught.value, ConditionError)


def _named(name: str) -> Any:
    async def state(ctx, payload):
        return {**payload, "at": name}

    return state


async def test_errors_retries_and_timeouts_lead_where_the_graph_says(flow: Flow, serving) -> None:
    """A function that raises is retried and then leads to on_error, with the error in the payload;
    so does one that takes too long, and a manual state nobody answers.
    """
    tries: list[int] = []

    async def flaky(ctx, payload):
        if ctx.replaying:
            return payload
        tries.append(1)
        if len(tries) < 3 or payload["kind"] == "broken":
            raise ValueError("no luck")
        return payload

    async def slow(ctx, payload):
        await ctx.sleep(3600)
        return payload

    async def choose(ctx, payload):
        return payload

    g = Graph("errors", initial="choose")
    g.add_state("choose", choose)
    retries = Retry(max_attempts=3, initial=0.001)
    g.add_state("flaky", flaky, retries=retries, on_error="mend")
    g.add_state("slow", slow, timeout=0.02, on_error="mend")
    g.add_state("ask", manual=True, timeout=timedelta(seconds=0.02), on_error="mend")
    g.add_state("bare", slow, timeout=0.02)
    g.add_state("mend", terminal=True)
    g.add_state("done", terminal=True)
    for kind in ("slow", "ask", "bare"):
        g.transition("choose", kind, when=f"payload.kind == '{kind}'")
        g.transition(kind, "done")
    g.transition("choose", "flaky")
    g.transition("flaky", "done")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        assert "error" not in await flow.run("errors", {"kind": "flaky"}, timeout=10)
        assert len(tries) == 3
        broken = (await flow.run("errors", {"kind": "broken"}, timeout=10))["error"]
        assert broken == {"state": "flaky", "type": "builtins.ValueError", "message": "no luck"}
        for kind in ("slow", "ask"):
            error = (await flow.run("errors", {"kind": kind}, timeout=10))["error"]
            assert error["state"] == kind
            assert error["type"].endswith("StateTimeoutError")
        with pytest.raises(RunFailed, match=r"was not left within 0\.02 s") as caught:
            await flow.run("errors", {"kind": "bare"}, timeout=10)
        assert isinstance(caught.value, StateTimeoutError)


async def test_after_takes_a_transition_when_its_time_has_come(flow: Flow, serving) -> None:
    """The first timer whose guard holds is taken, whatever the order of their definition; also in a
    state that waits for nothing else.
    """
    g = Graph("timers", initial="ask")
    g.add_state("ask", manual=True)
    g.add_state("pause")
    g.add_state("end", terminal=True)
    g.transition("ask", "end", on="go")
    g.transition("ask", "end", after=3600)
    g.transition("ask", "end", after=0.01, when="false")
    g.transition("ask", "pause", after=0.02)
    g.transition("pause", "end", after=timedelta(milliseconds=10))
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("timers", {"n": 1})
        assert await flow.result(run_id, timeout=10) == {"n": 1}
        assert (await at(flow, run_id, "end"))["path"] == ["ask", "pause", "end"]


@pytest.mark.parametrize("policy", ["keep", "reject", "defer"])
async def test_what_becomes_of_signals_that_nobody_takes(flow: Flow, serving, policy: str) -> None:
    """keep leaves other names in the inbox, reject drops them, defer also keeps what guards
    refused; whoever asks is told.
    """
    g = Graph("policy", initial="first", unhandled=policy)
    g.add_state("first", manual=True)
    g.add_state("second", manual=True)
    g.add_state("end", terminal=True)
    g.transition("first", "second", on="go", when="signal.fit == true")
    g.transition("second", "end", on="go", when="true")
    g.transition("second", "end", on="finish")
    g.transition("second", "end", on="late", after=None)
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("policy", {})
        await at(flow, run_id, "first")
        await flow.send_signal(run_id, "finish", {"by": "finish"})
        told = await flow.offer_signal(run_id, "go", {"by": "unfit"}, timeout=10)
        assert told.outcome == ("deferred" if policy == "defer" else "rejected")
        assert told.state == "first"
        told = await flow.offer_signal(run_id, "go", {"fit": True}, timeout=10)
        assert told.outcome == "taken"
        if policy == "reject":
            await at(flow, run_id, "second")
            await flow.send_signal(run_id, "late", {"by": "late"})
        by = {"keep": "finish", "reject": "late", "defer": "unfit"}[policy]
        assert await flow.result(run_id, timeout=10) == {"fit": True, "by": by}


class Order(BaseModel):
    """A payload with a type."""

    amount: int
    paid: bool = False


async def test_a_payload_model_holds_at_every_turn(flow: Flow, serving) -> None:
    """Start, function and signal are checked; a signal that doesn't fit changes nothing."""
    g = Graph("typed", initial="ask", payload=Order)

    @g.state("ask", manual=True)
    async def ask(ctx, payload: Order) -> Order:
        assert isinstance(payload, Order)
        return payload

    g.add_state("end", terminal=True)
    g.transition("ask", "end", on="paid", when=lambda order: order.paid)
    flow.register_graph(g)
    async with serving(flow, warm=0):
        with pytest.raises(PayloadError, match="amount"):
            await flow.start("typed", {"amount": "much"})
        run_id = await flow.start("typed", {"amount": 5})
        told = await flow.offer_signal(run_id, "paid", {"amount": "much"}, timeout=10)
        assert told.outcome.startswith("rejected: the payload doesn't fit Order: amount")
        await flow.send_signal(run_id, "paid", {"paid": True})
        assert await flow.result(run_id, timeout=10) == {"amount": 5, "paid": True}


async def test_merge_is_the_graphs_or_the_transitions_own(flow: Flow, serving) -> None:
    """merge= of the graph replaces the shallow one, merge= of a transition both."""
    g = Graph("merging", initial="ask", merge=lambda payload, sent: [*payload, sent])
    g.add_state("ask", manual=True)
    g.add_state("end", terminal=True)
    g.transition("ask", "ask", on="add")
    g.transition("ask", "end", on="end", merge=lambda payload, sent: {"all": payload, "end": sent})
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("merging", [])
        for number in (1, 2):
            await flow.send_signal(run_id, "add", number)
        await flow.send_signal(run_id, "end", 3)
        assert await flow.result(run_id, timeout=10) == {"all": [1, 2], "end": 3}


def _inner(name: str, event: str) -> Graph:
    g = Graph(name, initial="one")
    g.add_state("one", manual=True)
    g.add_state("two", manual=True)
    g.add_state("end", terminal=True)
    g.transition("one", "two", on=event)
    g.transition("two", "end", on=event)
    return g


async def test_a_subgraph_is_left_early_and_come_back_to(flow: Flow, serving) -> None:
    """A signal of the outer graph leaves the sub-graph; history enters it where it was."""
    g = Graph("outer", initial="work")
    g.subgraph("work", _inner("work", "step"))
    g.add_state("held", manual=True)
    g.history("back", of="work")
    g.add_state("end", terminal=True)
    g.transition("work", "held", on="hold")
    g.transition("held", "back", on="resume")
    g.transition("work", "end")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("outer", {})
        await flow.offer_signal(run_id, "step", {"first": 1}, timeout=10)
        await flow.send_signal(run_id, "hold", {"held": True})
        await at(flow, run_id, "held")
        await flow.send_signal(run_id, "resume")
        await flow.send_signal(run_id, "step", {"second": 2})
        assert await flow.result(run_id, timeout=10) == {"first": 1, "second": 2}
        path = (await at(flow, run_id, "end"))["path"]
    assert path == [
        "work", "work/one", "work/two", "held", "back", "work/two", "work/end", "end",
    ]  # fmt: skip


@pytest.mark.parametrize(("join", "expected"), [(None, {"left", "right"}), (1, {"right"})])
async def test_regions_of_a_fork_run_side_by_side(flow: Flow, serving, join, expected) -> None:
    """All regions get the payload and their own signals; a join of one cancels the others."""
    g = Graph("fork", initial="both")
    regions = {"left": _inner("left", "l"), "right": _inner("right", "r")}
    g.fork("both", regions, join=join)
    g.add_state("end", terminal=True)
    g.transition("both", "end")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("fork", {"n": 1})
        for signal in ("r", "r") if join else ("r", "l", "r", "l"):
            await flow.send_signal(run_id, signal, {signal: True})
        found = await flow.result(run_id, timeout=10)
    assert set(found) == {"n"} | expected
    assert found["right"] == {"n": 1, "r": True}


async def test_between_automatic_states_a_payload_may_be_anything(flow: Flow, serving) -> None:
    """What JSON can't carry is not shown, but passed on; only where a run rests it is refused."""

    async def make(ctx, payload):
        return {"when": ctx.now(), "rest": payload["rest"]}

    async def take(ctx, payload):
        return {"year": payload["when"].year > 2000}

    g = Graph("anything", initial="make")
    g.add_state("make", make)
    g.add_state("rest", manual=True)
    g.add_state("take", take, terminal=True)
    g.transition("make", "rest", when=lambda payload: payload["rest"])
    g.transition("make", "take")
    g.transition("rest", "take")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        assert await flow.run("anything", {"rest": False}, timeout=10) == {"year": True}
        with pytest.raises(RunFailed, match="can't be carried as JSON"):
            await flow.run("anything", {"rest": True}, timeout=10)


async def test_a_long_cycle_continues_as_new_and_is_bounded(flow: Flow, serving) -> None:
    """A run of many transitions keeps a short journal, its count, what was deferred, its output."""

    async def count(ctx, payload):
        async def add() -> int:
            return int(payload["n"]) + 1

        return {**payload, "n": await ctx.step(add)}

    g = Graph("long", initial="count", continue_after=10, max_transitions=60, unhandled="defer")
    g.add_state("count", count)
    g.add_state("ask", manual=True)
    g.add_state("end", terminal=True)
    g.transition("count", "ask", when="payload.n == payload.to")
    g.transition("count", "count", when="payload.n < 1000")
    g.transition("ask", "end", on="go")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("long", {"n": 0, "to": 35})
        position = await at(flow, run_id, "ask")
        assert position["taken"] == 35
        assert len(await flow._open.store.journal(run_id)) < 20
        await flow.send_signal(run_id, "go")
        assert (await flow.result(run_id, timeout=10))["n"] == 35
        with pytest.raises(RunFailed, match="more than 60 transitions"):
            await flow.run("long", {"n": 0, "to": 100}, timeout=10)


async def test_nobody_starts_in_the_middle_of_a_graph(flow: Flow, serving, postgres) -> None:
    """An input that looks like a position is refused, also from a process without the graph."""
    flow.register_graph(line("middle", "a", "b"))
    forged = {POSITION: {"state": "b", "payload": {"paid": True}}}
    stranger = Flow(postgres.url, schema=flow.schema)
    async with serving(flow, warm=0), stranger:
        with pytest.raises(PayloadError, match="engine's own"):
            await flow.start("middle", forged)
        await flow.run("middle", {}, timeout=10)
        run_id = await stranger.start("middle", forged)
        with pytest.raises(RunFailed, match="engine's own"):
            await flow.result(run_id, timeout=10)


async def test_a_fork_of_a_continued_run_goes_on_where_it_was(flow: Flow, serving) -> None:
    """fork() of a run that has continued as new begins at its position, not at the start."""

    async def count(ctx, payload):
        async def add() -> int:
            return int(payload["n"]) + 1

        return {"n": await ctx.step(add)}

    g = Graph("forked", initial="count", continue_after=3)
    g.add_state("count", count)
    g.add_state("end", terminal=True)
    g.transition("count", "end", when="payload.n == 5")
    g.transition("count", "count", when="payload.n < 5")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("forked", {"n": 0})
        await flow.result(run_id, timeout=10)
        steps = [e["key"] for e in await flow._open.store.journal(run_id) if e["kind"] == "step"]
        other = await flow.fork(run_id, from_step=steps[-1])
        assert await flow.result(other, timeout=10) == {"n": 5}


async def test_what_is_left_early_runs_its_exit_actions_from_the_inside(
    flow: Flow, serving
) -> None:
    """A signal of the outer graph, or a join that doesn't wait for all, leaves the states inside:
    innermost first, the last region first, each once; those that had ended not again.
    """
    seen: list[str] = []

    def note(what: str) -> Any:
        async def action(ctx, payload):
            async def record() -> None:
                seen.append(what)

            await ctx.step(record)

        return action

    def region(name: str) -> Graph:
        g = Graph(name, initial="a")
        g.add_state("a", manual=True, exit=note(f"-{name}a"))
        g.add_state("b", terminal=True, exit=note(f"-{name}b"))
        g.transition("a", "b", on=name)
        return g

    middle = Graph("middle", initial="deep")
    middle.fork("deep", {"l": region("l"), "r": region("r")}, exit=note("-deep"))
    middle.add_state("done", terminal=True)
    middle.transition("deep", "done")
    g = Graph("early", initial="out")
    g.subgraph("out", middle, exit=note("-out"))
    g.fork("race", {name: region(name) for name in "xyz"}, join=1, exit=note("-race"))
    g.add_state("end", terminal=True)
    g.transition("out", "race", on="leave", action=note("leave"))
    g.transition("out", "race")
    g.transition("race", "end")
    flow.register_graph(g)
    async with serving(flow, warm=0):
        run_id = await flow.start("early", {})
        for signal in ("r", "leave", "y"):
            assert (await flow.offer_signal(run_id, signal, timeout=10)).taken
        await flow.result(run_id, timeout=10)
    inside, race = ["-ra", "-rb", "-la", "-deep", "-out"], ["-ya", "-yb", "-za", "-xa", "-race"]
    assert seen == [*inside, "leave", *race]


def test_a_graph_inside_that_never_ends_needs_no_way_on() -> None:
    """What has no terminal state inside is left by a signal alone; with too few ends for the join
    too; else a way on is missed.
    """

    def inner(*, ends: bool) -> Graph:
        g = Graph("inner", initial="a")
        g.add_state("a", manual=True)
        g.transition("a", "a", on="tick")
        if ends:
            g.add_state("z", terminal=True)
            g.transition("a", "z", on="stop")
        return g

    def found(join: int | None, *ends: bool) -> list[str]:
        g = Graph("outer", initial="in")
        g.fork("in", {f"r{n}": inner(ends=e) for n, e in enumerate(ends)}, join=join)
        g.add_state("z", terminal=True)
        g.transition("in", "z", on="leave")
        return [problem.code for problem in g.validate()]

    assert found(None, False) == found(None, True, False) == found(2, True, False) == []
    assert found(None, True) == found(1, True, False) == ["dead-end"]

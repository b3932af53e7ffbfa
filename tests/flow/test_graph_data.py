# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Graphs as JSON, their conditions, and what hostile ones come to. No database."""

import contextlib
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel

from forktex_core.flow import (
    ConditionError,
    DefinitionError,
    Graph,
    GraphError,
    Library,
    Retry,
)
from forktex_core.flow.graph import document
from forktex_core.flow.graph.condition import Condition

library = Library()


@library.action
async def send(ctx: Any, payload: Any) -> Any:
    return payload


@library.guard
def paid(payload: Any) -> bool:
    return bool(payload["paid"])


@library.merge
def newest(payload: Any, sent: Any) -> Any:
    return sent


@library.payload
class Order(BaseModel):
    """What an order is."""

    paid: bool = False


def everything() -> Graph:
    """Return a graph that uses all there is."""
    inner = Graph("inner", initial="a")
    inner.add_state("a", manual=True)
    inner.add_state("b", terminal=True)
    inner.transition("a", "b")
    g = Graph("order", version=3, initial="new", unhandled="defer", payload=Order, merge=newest)
    g.continue_after = 50
    g.add_state(
        "new", send, manual=True, entry=[send, send], exit=send, timeout=60, on_error="lost",
        retries=Retry(max_attempts=5, initial=1), unhandled="reject",
    )  # fmt: skip
    g.subgraph("inside", inner)
    g.fork("both", {"left": inner, "right": inner}, join=1, merge=newest)
    g.history("back", of="inside")
    g.add_state("lost", terminal=True)
    g.add_state("end", terminal=True)
    g.transition("new", "inside", on="pay", when=paid, priority=2, action=send, merge=newest)
    g.transition("new", "new", on="touch", internal=True)
    g.transition(
        "new", "back", on="again", when="payload.paid == true && has(signal.x)", action=(send, send)
    )
    g.transition("new", "both", after=3600)
    g.transition("inside", "both")
    g.transition("both", "end")
    return g


def test_a_graph_survives_the_way_through_json() -> None:
    """Reading what was written gives the same graph: written again, it is the same text."""
    text = everything().to_json(library)
    again = Graph.from_json(text, library)
    assert again.to_json(library) == text
    assert again.states["new"].function is send
    assert again.states["new"].retries == Retry(max_attempts=5, initial=1.0)
    assert again.payload is Order
    assert again.continue_after == 50
    with pytest.raises(DefinitionError, match="'Order' has no name as a graph's payload"):
        everything().to_json(Library())


def test_a_row_of_actions_tells_each_that_is_missing() -> None:
    """By its place in the row; a row without any, or of other things, has the wrong form."""
    wrong = small()
    wrong["states"]["a"] = {"manual": True, "entry": ["send", "nope"], "exit": "nope"}
    wrong["transitions"][0]["action"] = ["nope", "send"]
    assert problems(wrong) == [
        ("missing-name", "/states/a/entry/1"),
        ("missing-name", "/states/a/exit"),
        ("missing-name", "/transitions/0/action/0"),
    ]
    wrong["states"]["a"] = {"manual": True, "entry": [], "exit": [7]}
    assert {path for code, path in problems(wrong) if code == "wrong-form"} >= {
        "/states/a/entry", "/states/a/exit/0",
    }  # fmt: skip


def without_names(schema: Any) -> Any:
    """A schema without what it says of a mapping's keys, which pydantic before 2.11 leaves out."""
    if isinstance(schema, list):
        return [without_names(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: without_names(v) for k, v in schema.items() if k not in {"propertyNames", "Name"}}


def test_the_published_schema_is_the_one_that_is_read_by() -> None:
    """graph.schema.json is what the models say. To renew it: write schema_of_models() there."""
    published, said = Graph.json_schema(), document.schema_of_models()
    assert without_names(published) == without_names(said)
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 11):
        assert published == said
    copy = Path(__file__).parents[2] / "docs" / "graph.schema.json"
    assert json.loads(copy.read_text(encoding="utf-8")) == published


def small(**changes: Any) -> dict[str, Any]:
    """Return a document that is right, with changes."""
    return {
        "name": "g",
        "initial": "a",
        "states": {"a": {"manual": True}, "b": {"terminal": True}},
        "transitions": [{"from": "a", "to": "b"}],
        **changes,
    }


def problems(text: Any) -> list[tuple[str, str]]:
    """Return the codes and paths of what is wrong with a document."""
    with pytest.raises(GraphError) as caught:
        Graph.from_json(text if isinstance(text, str | bytes) else json.dumps(text), library)
    return [(p.code, p.path) for p in caught.value.problems]


def test_all_problems_of_a_document_come_with_their_paths() -> None:
    """Form first, all of it; then names, expressions and the graph itself, together."""
    wrong = small(version="one", extra=1)
    wrong["states"]["a"] = {"manual": "yes"}
    assert problems(wrong) == [
        ("wrong-form", "/version"),
        ("wrong-form", "/states/a/manual"),
        ("wrong-form", "/extra"),
    ]
    wrong = small(initial="zz")
    wrong["states"]["a/~"[0]] = {"manual": True, "action": "os.system", "on_error": "nowhere"}
    wrong["transitions"] = [
        {"from": "a", "to": "b", "when": "payload.x +"},
        {"from": "a", "to": "b", "on": "x", "when": {"guard": "nope"}},
    ]
    found = problems(wrong)
    assert ("unknown-state", "/initial") in found
    assert ("missing-name", "/states/a/action") in found
    assert ("missing-name", "/transitions/1/when/guard") in found
    assert ("unknown-state", "/states/a/on_error") in found
    assert ("wrong-expression", "/transitions/0/when") in found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 100_000, "nested-too-deep"),
        ('{"a":' * 100_000, "nested-too-deep"),
        ('"' + "\\" * 500_000, "wrong-json"),
        ('{"name": "a", "name": "b"}', "wrong-json"),
        ('{"name": NaN}', "wrong-json"),
        ("\ud800", "wrong-json"),
        (b"\xff\xfe", "wrong-json"),
        ("x" * 2_000_000, "too-large"),
        ("1" * 500_000, "wrong-json"),
        ("[]", "wrong-form"),
        ("null", "wrong-form"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_hostile_texts_are_refused(text: str | bytes, code: str) -> None:
    """Deep, huge, ambiguous or broken texts end in one error that names the cause."""
    assert problems(text)[0][0] == code


@pytest.mark.parametrize(
    "name",
    ["", " a", "a\u202eb", "a\x00b", "a\u200bb", "\uff41", "$graph", "@acme/x", "a/b", "x" * 201],
)
def test_names_that_play_tricks_are_refused(name: str) -> None:
    """Hidden, reordering, look-alike and reserved names are no names of states, graphs, signals."""
    as_state = small(initial=name, states={name: {"manual": True}, "b": {"terminal": True}})
    as_state["transitions"][0]["from"] = name
    for wrong in (
        as_state,
        small(name=name),
        small(transitions=[{"from": "a", "to": "b", "on": name}]),
    ):
        assert problems(wrong)[0][0] in ("wrong-name", "wrong-form")


def test_a_million_states_are_refused_at_once() -> None:
    """Too many states, spread over nested graphs too, are told as such."""
    many = {f"s{n}": {"manual": True} for n in range(2_001)}
    assert problems(small(states=many))[0] == ("wrong-form", "/states")
    nested = small(states={"a": {"graph": small(states={**many, "s1": {}})}})
    assert problems(nested)[0][0] == "wrong-form"
    half = dict(list(many.items())[:1_500])
    twice = small(states={"a": {"regions": {"x": small(states=half), "y": small(states=half)}}})
    assert problems(twice)[0][0] == "too-large"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "not nothing"),
        ("payload.a +", "no CEL expression"),
        ("(" * 25 + "true" + ")" * 25, "nests more than 24 brackets"),
        ("!" * 40 + "true", "signs in a row"),
        ("true || " * 400 + "true", "are allowed"),
        ("os.system('x')", "names 'os'"),
        ("payload.system('x')", "calls 'system'"),
        ("__import__('os')", "calls '__import__'"),
        ("secret == 1", "names 'secret'"),
        ("payload.l.map(x, x + x).size() > 0", "calls 'map'"),
        ("payload.l.all(a, payload.l.all(b, payload.l.all(c, true)))", "more than 2 loops"),
        ("payload.l.all(a, a.matches('x'))", "can't stand inside of a loop"),
        ("'a'.matches(payload.x)", "one string literal"),
        ("payload.a)", "not open"),
        ("(payload.a", "leaves a bracket open"),
    ],
)
def test_expressions_that_reach_or_take_too_much_are_refused(source: str, why: str) -> None:
    """Only payload, signal and metadata can be named; what could run for long is refused."""
    problem = Condition(source).problem
    assert problem is not None
    assert why in problem


def test_a_condition_sees_payload_signal_and_metadata() -> None:
    """And nothing else; what can't be evaluated says so, what would take too long isn't begun."""
    holds = Condition("payload.items.exists(i, i.price > signal.limit) && metadata.org == 'acme'")
    items = {"items": [{"price": 3}, {"price": 5}]}
    assert holds.holds(items, {"limit": 4}, {"org": "acme"})
    assert not holds.holds(items, {"limit": 5}, {"org": "acme"})
    with pytest.raises(ConditionError, match="there is no 'limit'"):
        holds.holds(items, {}, {"org": "acme"})
    with pytest.raises(ConditionError, match="is a int, not a bool"):
        Condition("payload.items.size()").holds(items, None, {})
    square = Condition("payload.l.all(a, payload.l.all(b, a == b))")
    assert square.holds({"l": [1] * 10}, None, {})
    with pytest.raises(ConditionError, match="too much data"):
        square.holds({"l": [1] * 5_000}, None, {})
    doubling = Condition("[payload.s + payload.s].all(a, (a + a + a + a + a).size() > 0)")
    with pytest.raises(ConditionError, match="too much data"):
        doubling.holds({"s": "x" * 1_000_000}, None, {})


def test_random_garbage_never_gets_past_as_something_else() -> None:
    """Whatever the text, a condition is either usable or has a problem: nothing escapes."""
    draw = random.Random(4)
    pieces = "payload signal . ( ) [ ] { } , ? : ! - + * && || == 'a' 1 true in size has x".split()
    for _ in range(2_000):
        condition = Condition(" ".join(draw.choices(pieces, k=draw.randint(1, 12))))
        if condition.problem is None:
            try:
                condition.holds({"x": 1}, None, {})
            except ConditionError:
                continue


def test_mutilated_documents_end_in_a_graph_error() -> None:
    """A right document with a piece cut out or doubled is read, or refused with GraphError."""
    text = everything().to_json(library)
    draw = random.Random(7)
    for _ in range(300):
        at, length = draw.randrange(len(text)), draw.randint(1, 30)
        broken = text[:at] + draw.choice(["", text[at : at + length] * 2]) + text[at + length :]
        with contextlib.suppress(GraphError):
            Graph.from_json(broken, library)


def test_the_writers_limits_are_the_readers() -> None:
    """What to_json() wrote of the largest graph is read again."""
    states = {f"s{n}": {"manual": True} for n in range(document.MAX_STATES - 1)}
    names = [*states, "end"]
    ways = [{"from": a, "to": b} for a, b in pairwise(names)]
    whole = {**states, "end": {"terminal": True}}
    graph = Graph.from_json(json.dumps(small(initial="s0", states=whole, transitions=ways)))
    assert Graph.from_json(graph.to_json()).to_json() == graph.to_json()

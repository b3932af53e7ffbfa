# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Pictures of graphs, and a thousand states checked. No database."""

import itertools
import random
import re
import xml.etree.ElementTree as ET

import pytest

from forktex_core.flow import Graph, GraphError, GraphPosition
from forktex_core.flow.graph.layout import lay_out
from tests.flow.test_graph_data import everything

SVG = "{http://www.w3.org/2000/svg}"
WHERE = GraphPosition(
    "inside", {}, ["new", "inside", "inside/a"], 1, {"": {"state": "a", "payload": {}}}
)


def test_an_svg_shows_each_state_and_where_the_run_is() -> None:
    """Every state of every graph has a box; the run's are marked, and the way that it took."""
    picture = ET.fromstring(everything().to_svg(WHERE))
    looks = {
        g.get("data-state"): g.find(f"{SVG}rect").get("class") for g in picture.iter(f"{SVG}g")
    }
    assert looks["inside"] == looks["inside/a"] == "state current"
    assert looks["new"] == "state visited"
    assert looks["inside/b"] == looks["both/left/a"] == looks["end"] == "state"
    taken = [p for p in picture.iter(f"{SVG}path") if "taken" in p.get("class", "")]
    assert len(taken) == 1
    texts = ["".join(t.itertext()).strip() for t in picture.iter(f"{SVG}text")]
    assert {"pay [paid]", "after 1 h", "error", "left", "right", "H"} <= set(texts)


def test_names_that_are_markup_stay_text_in_all_pictures() -> None:
    """What end users call a state can't break out of SVG, DOT or Mermaid."""
    evil = '"></text><script>alert(1)</script>\\"; end\\'
    g = Graph("evil", initial=evil)
    g.add_state(evil, manual=True)
    g.add_state("end", terminal=True)
    g.transition(evil, "end", on=evil)
    where = GraphPosition(evil, {}, [evil], 0, {})
    picture = ET.fromstring(g.to_svg(where))
    assert not list(picture.iter(f"{SVG}script"))
    assert picture.find(f".//{SVG}g").get("data-state") == evil
    assert "<script" not in g.to_mermaid(where)
    for line in g.to_dot(where).splitlines():
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
        assert '"' not in bare
        assert "script" not in bare
    for text in re.findall(r': (.*)|state "(.*)" as', g.to_mermaid(where)):
        assert not set("".join(text)) & set('"{};:\\') - set(";")


def test_texts_for_mermaid_and_dot_mark_the_run() -> None:
    """Both name every state, nest what is inside, and mark state, visited states and ways."""
    mermaid, dot = everything().to_mermaid(WHERE), everything().to_dot(WHERE)
    assert mermaid.startswith("stateDiagram-v2\n")
    assert mermaid.count(" current") == 3
    assert mermaid.count(" visited") == 2
    assert "    --\n" in mermaid
    assert mermaid.count("{") == mermaid.count("}")
    assert dot.count("subgraph cluster_") == 2
    assert dot.count("{") == dot.count("}")
    assert dot.count("color=blue") == 1


@pytest.mark.parametrize("seed", range(20))
def test_no_two_boxes_overlap(seed: int) -> None:
    """Whatever the graph, with cycles and loops, boxes keep apart and arrows have a route."""
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(draw.randint(1, 25))]
    sizes = {n: (draw.uniform(20, 200), draw.uniform(20, 90)) for n in names}
    edges = [(draw.choice(names), draw.choice(names)) for _ in range(draw.randint(0, 60))]
    layout = lay_out(sizes, edges)
    for a, b in itertools.combinations(layout.boxes.values(), 2):
        apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2
        assert apart_x or abs(a.y - b.y) >= (a.height + b.height) / 2
    for (source, target), route in zip(edges, layout.routes, strict=True):
        if source != target:
            assert route[0] == (layout.boxes[source].x, layout.boxes[source].y)
            assert route[-1] == (layout.boxes[target].x, layout.boxes[target].y)


def around() -> Graph:
    """Return a graph whose arrows have to go around a tall state."""
    inner = Graph("inner", initial="i0")
    for n in range(4):
        inner.add_state(f"i{n}", terminal=n == 3)
        if n:
            inner.transition(f"i{n - 1}", f"i{n}")
    g = Graph("around", initial="a")
    g.add_state("a", manual=True)
    g.add_state("b", manual=True)
    g.subgraph("tall", inner)
    g.add_state("beside", manual=True)
    g.add_state("end", terminal=True)
    g.transition("a", "b", on="b")
    g.transition("a", "end", on="far")
    g.transition("a", "end", after=60)
    g.transition("b", "tall", on="in")
    g.transition("b", "beside", on="beside")
    g.transition("beside", "end", on="over")
    g.transition("beside", "a", on="back")
    g.transition("tall", "end")
    g.transition("tall", "a", on="again")
    return g


def along(path: str) -> list[tuple[float, float]]:
    """Return points along a path of curves."""
    first, *curves = [[float(n) for n in part.split()] for part in re.split("[MC]", path) if part]
    points, here = [], (first[0], first[1])
    for curve in (c for group in curves for c in itertools.batched(group, 6)):
        ends = (here, curve[:2], curve[2:4], curve[4:])
        for step in range(1, 33):
            t = step / 33
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            points.append(
                tuple(
                    sum(w * e[axis] for w, e in zip(weights, ends, strict=True)) for axis in (0, 1)
                )
            )
        here = (curve[4], curve[5])
    return points


def test_no_arrow_goes_through_a_box_or_a_text() -> None:
    """Not even beside a state that is many times as tall as the others; tips point inwards."""
    picture = ET.fromstring(around().to_svg())
    boxes = [
        (g.get("data-state"), *(float(r.get(k)) for k in ("x", "y", "width", "height")))
        for g in picture.iter(f"{SVG}g")
        for r in [g.find(f"{SVG}rect")]
        if "/" not in g.get("data-state")
    ]
    arrows = [p.get("d") for p in picture.findall(f"{SVG}path") if "C" in p.get("d")]
    assert len(arrows) == 9
    for path in arrows:
        for (x, y), (name, left, top, width, height) in itertools.product(along(path), boxes):
            assert not (left < x < left + width and top < y < top + height), (path, name)
        *_, before, last = along(path)
        target = min(boxes, key=lambda b: abs(last[1] - b[2] - b[4] / 2) - b[4] / 2)
        middle = target[2] + target[4] / 2
        assert abs(last[1] - middle) < abs(before[1] - middle)
    texts = [
        (float(t.get("x")), float(t.get("y")), "".join(t.itertext()).strip())
        for t in picture.findall(f"{SVG}text")
        if "label" in t.get("class")
    ]
    for (ax, ay, a), (bx, by, b) in itertools.combinations(texts, 2):
        assert abs(ax - bx) > 3 * (len(a) + len(b)) or abs(ay - by) > 12, (a, b)


def thousand() -> Graph:
    """Return a graph of 1,000 states with one problem in each tenth."""
    g = Graph("thousand", initial="s0")
    for n in range(1000):
        g.add_state(f"s{n}", manual=True, terminal=False)
        g.transition(f"s{n}", f"s{n + 1}" if n < 999 else "s0", on="next", when=f"payload.n > {n}")
        g.transition(f"s{n}", f"s{(n * 7) % 1000}", on="jump")
        if n % 10 == 0:
            g.transition(f"s{n}", f"lost{n}", on="lose")
    return g


def test_all_problems_of_a_large_graph_come_at_once() -> None:
    """A hundred wrong ways in a thousand states are a hundred problems, each with its own path."""
    found = thousand().validate()
    assert len(found) == 100
    assert {p.code for p in found} == {"unknown-state"}
    assert len({p.path for p in found}) == 100


@pytest.mark.parametrize(
    ("states", "ways", "code"),
    [
        ({"a": {"manual": True}, "b": {}}, [("a", "b", {})], "dead-end"),
        ({"a": {}, "b": {}, "z": {"terminal": True}}, [("a", "b", {}), ("b", "a", {})],
         "endless-cycle"),
        ({"a": {}}, [("a", "a", {"when": "payload.x"})], "endless-cycle"),
        ({"a": {"manual": True}, "z": {"terminal": True}},
         [("a", "z", {}), ("a", "a", {"when": "payload.x"})], "ambiguous-guards"),
        ({"a": {}, "z": {"terminal": True}},
         [("a", "z", {"when": "payload.x"}), ("a", "a", {"when": "payload.x"})],
         "ambiguous-guards"),
        ({"a": {"terminal": True}, "b": {"terminal": True}}, [], "unreachable-state"),
        ({"a": {}, "z": {"terminal": True}}, [("a", "z", {"on": "x"})], "wrong-transition"),
        ({"a": {"history_of": "z"}, "z": {"terminal": True}}, [], "unknown-state"),
        ({"a": {}, "z": {"terminal": True}}, [("a", "z", {"when": "nope"})], "wrong-expression"),
    ],
)  # fmt: skip
def test_each_kind_of_problem_is_found(states: dict, ways: list, code: str) -> None:
    """A graph with just this problem is refused with it."""
    g = Graph("wrong", initial="a")
    for name, options in states.items():
        g.add_state(name, **options)
    for source, target, options in ways:
        g.transition(source, target, **options)
    assert code in {p.code for p in g.validate()}
    with pytest.raises(GraphError):
        g.as_workflow()


def test_cycles_with_an_exit_or_a_wait_are_fine() -> None:
    """A guard that may lead out, a timer, or a signal in the cycle: no endless cycle."""
    for options in ({"when": "payload.n > 3"}, {"after": 1}):
        g = Graph("fine", initial="a")
        for name in ("a", "b"):
            g.add_state(name)
        g.add_state("z", terminal=True)
        g.transition("a", "z", **options)
        g.transition("a", "b", **({"when": "payload.n < 9"} if "when" in options else options))
        g.transition("b", "a")
        assert [p.code for p in g.validate()] == ([] if "when" in options else ["ambiguous-guards"])


def test_a_signal_that_two_levels_wait_for_is_told() -> None:
    """A graph within itself, and a signal that both levels take, are problems."""
    inner = Graph("inner", initial="a")
    inner.add_state("a", manual=True)
    inner.add_state("z", terminal=True)
    inner.transition("a", "z", on="go")
    outer = Graph("outer", initial="in")
    outer.subgraph("in", inner)
    outer.add_state("z", terminal=True)
    outer.transition("in", "z", on="go")
    outer.transition("in", "z")
    assert [(p.code, p.path) for p in outer.validate()] == [
        ("ambiguous-signal", "/states/in/regions/")
    ]
    ring = Graph("ring", initial="in")
    ring.subgraph("in", ring)
    ring.add_state("z", terminal=True)
    ring.transition("in", "z")
    assert "nested-too-deep" in {p.code for p in ring.validate()}

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Guards that are answered without the interpreter say what it says. No database."""

import itertools
from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.flow import ConditionError
from forktex_core.flow.graph.comparison import answer, comparisons
from forktex_core.flow.graph.condition import Condition

SIGNS = ("==", "!=", "<", "<=", ">", ">=")
literals = st.one_of(
    st.integers(-(2**59), 2**59).map(str),
    st.text("abz &=<", max_size=4).map(lambda s: f"'{s}'"),
    st.text("ab'c", max_size=3).map(lambda s: f'"{s}"'),
    st.sampled_from(["true", "false", "null", "1.5", "5u", "0x1f", "-0", "007"]),
)
values = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-3, 3), st.floats(allow_nan=False), st.booleans(),
    st.none(), st.text("abz &=<", max_size=4), st.just("\u00e9"), st.lists(st.none(), max_size=2),
)  # fmt: skip
parts = st.builds(
    "{0}.{1}{4}{2}{4}{3}".format,
    st.sampled_from(["payload", "signal", "metadata"]), st.sampled_from(["a", "b"]),
    st.sampled_from(SIGNS), literals, st.sampled_from(["", " "]),
)  # fmt: skip
dicts = st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2)


def interpreted(source: str, seen: dict[str, Any]) -> Any:
    """Return what the interpreter says, or that it can't say."""
    try:
        return cel.compile(source).execute(seen)
    except Exception:
        return "error"


@given(st.lists(parts, min_size=1, max_size=3), dicts, dicts, dicts)
def test_comparisons_say_what_the_interpreter_says(ways, payload, signal, metadata) -> None:
    """Whatever the literals and whatever the fields hold, an answer is the interpreter's own."""
    source = " && ".join(ways)
    said = answer(comparisons(source), (payload, signal, metadata)) if comparisons(source) else None
    if said is not None:
        seen = {"payload": payload, "signal": signal, "metadata": metadata}
        assert said == interpreted(source, seen)


@given(st.lists(parts, min_size=1, max_size=3), dicts, dicts, dicts)
def test_a_condition_holds_as_the_interpreter_says(ways, payload, signal, metadata) -> None:
    """With only the fields that the expression names carried over to it."""
    condition = Condition(" && ".join(ways))
    if condition.problem is not None:
        return
    seen = {"payload": payload, "signal": signal, "metadata": metadata}
    expected = interpreted(condition.source, seen)
    try:
        assert condition.holds(payload, signal, metadata) is expected
    except ConditionError:
        assert expected == "error"


def test_the_plain_ones_are_answered_here() -> None:
    """Integers by every sign, strings and booleans by equality: without the interpreter."""
    for sign, literal in itertools.product(SIGNS, (-1, 0, 1)):
        asked = comparisons(f"payload.n {sign} {literal}")
        assert answer(asked, ({"n": 0}, None, None)) is eval(f"0 {sign} {literal}")
    both = comparisons("payload.s == 'a b' && signal.ok != true")
    assert answer(both, ({"s": "a b"}, {"ok": False}, None)) is True
    assert answer(both, ({"s": "a"}, {"ok": False}, None)) is False
    assert answer(both, ({"s": "a b"}, {"ok": True}, None)) is False


@pytest.mark.parametrize(
    "source",
    ["payload.n == 1 || true", "payload.s < 'a'", "payload.b < true", "payload.n == 1.0", "true",
     "payload.a.b == 1", "payload.s == 'a\\n'", "size(payload.l) == 1", "payload.n == 1 &&"],
)  # fmt: skip
def test_whatever_else_is_left_to_the_interpreter(source: str) -> None:
    """No other form is taken for a comparison."""
    assert comparisons(source) == ()


def test_only_the_fields_that_are_named_are_carried_over() -> None:
    """So what another field holds costs nothing, and hurts nothing."""
    payload = {"n": 1.0, "other": object(), "m": {"x": 1}}
    assert Condition("payload.n == 1.0 && payload.m.x > 0").holds(payload, None, {})
    assert Condition("has(payload.n) && !has(payload.q)").holds(payload, None, {})
    with pytest.raises(ConditionError):
        Condition("payload == {}").holds(payload, None, {})
    with pytest.raises(ConditionError):
        Condition("size(payload) == 3 && payload.n == 1.0").holds(payload, None, {})
    assert Condition("payload.size() == 1").holds({"n": 1}, None, {})
    assert Condition("payload['n'] == 1 && payload.n == 1").holds({"n": 1}, None, {})
    with pytest.raises(ConditionError, match="there is no 'gone'"):
        Condition("payload.gone == 1").holds({"n": 1}, None, {})

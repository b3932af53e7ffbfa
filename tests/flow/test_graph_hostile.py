# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What hostile conditions come to: a clear error, or an answer, in bounded time and memory."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from forktex_core.flow import ConditionError
from forktex_core.flow.errors import DefinitionError
from forktex_core.flow.graph.condition import Condition
from forktex_core.flow.graph.pattern import pattern_size
from tests.flow.hostile_conditions import ANSWERED, ERRORS, REFUSED

ROOT = Path(__file__).parents[2]


async def test_hostile_conditions_end_in_bounded_time_and_memory() -> None:
    """All of them within 30 seconds of CPU and 2 GiB: the process would be killed otherwise. Each
    is refused, fails with an error of its own, or has an answer, as it should.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.flow.hostile_conditions", cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    expected = dict.fromkeys(REFUSED, "refused")
    expected |= dict.fromkeys(ERRORS, "error") | dict.fromkeys(ANSWERED, "answered")
    assert json.loads(out) == expected


@pytest.mark.parametrize(
    ("literal", "size"),
    [
        ("'[a-z]+$'", 4),
        ("'a{10}'", 12),
        ("'(ab{10}){3}'", 35),
        ("'a{3}{4}'", 14),
        ("'a{2,5}b{,4}'", 11),
        ("'(a|b)*'", 5),
        (r"r'\d{3}\w'", 7),
        (r"'\\d{3}'", 6),
        ("'[{99}]'", 3),
        ("'((((((('", 2),
        ("')))'", 5),
    ],
)  # fmt: skip
def test_a_repeat_by_number_is_as_large_as_its_copies(literal: str, size: int) -> None:
    """Copies of copies too; the quotes and whatever isn't understood count as one each."""
    assert pattern_size(literal) == size


@pytest.mark.parametrize(
    "literal",
    ["'a{199}'", "'(a{50}){5}'", "'((((a{9}){9}){9}){9})'", "'a{99999999999999999999}'",
     "'" + "a" * 200 + "'", r"'a\x7b9\x7d'", r"'\u007b'", r"'\173'", r"'a\U0000007b9}'"],
)  # fmt: skip
def test_large_patterns_are_refused(literal: str) -> None:
    """By their size, or because they hide something."""
    with pytest.raises(DefinitionError, match="regular expression"):
        pattern_size(literal)


def test_the_limits_leave_room_for_what_is_meant() -> None:
    """A loop over three hundred rows, a sum of names, a pattern over a page of text."""
    rows = {"items": [{"price": n, "name": "x" * 40} for n in range(300)]}
    assert Condition("payload.items.exists(i, i.price == 299)").holds(rows, None, {})
    name = Condition("payload.a + ' ' + payload.b + ' ' + payload.c == 'x y z'")
    assert name.holds({"a": "x", "b": "y", "c": "z"}, None, {})
    page = Condition(r"payload.text.matches('[^@ ]+@[^@ ]+[.][a-z]{2,20}')")
    assert page.holds({"text": "word " * 1_000 + "ada@example.org"}, None, {})
    with pytest.raises(ConditionError, match="too much data"):
        Condition("payload.items.exists(i, i.price == 1)").holds(
            {"items": rows["items"] * 10}, None, {}
        )


def test_additions_count_by_their_square() -> None:
    """Each copies what the ones before it built: a loop that adds three names is fine, one that
    adds a name to itself a dozen times is refused, though it looks at the payload only once.
    """
    rows = {"rows": ["name"] * 20}
    assert Condition("payload.rows.exists(r, r + r + r == 'namenamename')").holds(rows, None, {})
    often = " + ".join(["r"] * 13)
    with pytest.raises(ConditionError, match="too much data"):
        Condition(f"payload.rows.exists(r, {often} == 'x')").holds(rows, None, {})

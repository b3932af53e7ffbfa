# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Guards that are nothing but comparisons, answered without the interpreter.

Most guards compare a field with a literal, and handing the field over to the interpreter costs ten
times as much as that. So such guards are answered here, but only where there is nothing to
interpret: both sides are integers of 64 bits, both are strings (ASCII, equal or not), or both are
booleans. Whatever else the field holds, or if there is none, the answer is None: ask the
interpreter.
"""

import operator
import re
from collections.abc import Callable
from typing import Any

_COMPARISON = re.compile(
    r"""\s*(payload|signal|metadata)\.([A-Za-z_]\w*)\s*(==|!=|<=|>=|<|>)\s*
    (?:(-?\d{1,18})|'([^'\\\n]*)'|"([^"\\\n]*)"|(true|false))\s*""",
    re.VERBOSE | re.ASCII,
)
_VARIABLES = ("payload", "signal", "metadata")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_INT64 = 2**63

type Comparison = tuple[int, str, Callable[[Any, Any], bool], Any]


def comparisons(source: str) -> tuple[Comparison, ...]:
    """Return the comparisons that an expression consists of, joined by ``&&``; empty when it is
    anything else.
    """
    found = [_COMPARISON.fullmatch(part) for part in source.split("&&")]
    each = [_comparison(match) for match in found if match is not None]
    made = tuple(one for one in each if one is not None)
    return made if len(made) == len(found) else ()


def _comparison(match: re.Match[str]) -> Comparison | None:
    variable, field, sign, number, single, double, truth = match.groups()
    literal: Any = single if single is not None else double
    if number is not None:
        literal = int(number)
    elif truth is not None:
        literal = truth == "true"
    if number is None and sign not in ("==", "!="):
        return None
    return _VARIABLES.index(variable), field, _OPERATORS[sign], literal


def answer(asked: tuple[Comparison, ...], values: tuple[Any, Any, Any]) -> bool | None:
    """Return whether all comparisons hold for (payload, signal, metadata); None when one of them is
    not as simple as that.
    """
    holds = True
    for variable, field, compare, literal in asked:
        found = values[variable]
        value = found.get(field) if type(found) is dict else None
        kind = type(value)
        if kind is not type(literal):
            return None
        if kind is int and not -_INT64 <= value < _INT64:  # type: ignore[operator]
            return None
        if kind is str and not value.isascii():  # type: ignore[union-attr]
            return None
        holds = holds and compare(value, literal)
    return holds

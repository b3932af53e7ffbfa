# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Expressions that are meant to take long, or much: run by a process that is killed if they do.

``python -m tests.flow.hostile_conditions`` prints what became of each, as JSON: ``refused`` (before
it was evaluated, or because of the data), ``error`` or ``answered``.
"""

import json
import resource
from typing import Any

from forktex_core.flow import ConditionError
from forktex_core.flow.graph.condition import Condition

CPU_SECONDS = 30
MEMORY = 2 << 30


def payload() -> dict[str, Any]:
    """Return what an attacker would send along."""
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    return {
        "s": "a" * 1_000_000,
        "u": "a\u00e9" * 300_000,
        "l": list(range(3_000)),
        "m": {f"k{n}": n for n in range(3_000)},
        "rows": [{"a": "x" * 100, "b": [1, 2, 3]} for _ in range(1_000)],
        "n": 5,
        "deep": deep,
    }


REFUSED = {
    "loops over loops": "payload.l.all(a, payload.l.all(b, a == b || true))",
    "a loop that copies": "payload.m.all(k, payload.m[k] >= 0)",
    "rows against rows": "payload.rows.all(a, payload.rows.exists(b, b.a.contains('y') || a == b))",
    "a sum of texts": " + ".join(["payload.s"] * 150) + " == 'a'",
    "a sum of lists": " + ".join(["payload.l"] * 150) + " == []",
    "filters in a row": "payload.l" + ".filter(a, true)" * 100 + ".size() > 0",
    "doubling": "[payload.s + payload.s].all(a, (a + a + a + a + a).size() > 0)",
    "copies in a loop": "[payload.s].all(a, [a, a, a, a, a].all(b, b.size() > 0))",
    "repeats of repeats": "payload.s.matches('((a{99}){99}){99}')",
    "one large repeat": "payload.s.matches('(a{1000}){9}')",
    "a hidden repeat": r"payload.s.matches('(a\x7b1000\x7d)\x7b9\x7d')",
    "many repeats": " || ".join(["payload.n.matches('a{99}b{99}')"] * 9),
    "a large class, far": r"payload.u.matches('[\\pL\\pN\\pS]{150}b')",
    "brackets": "(" * 900 + "1" + ")" * 900 + " == 1",
    "signs": "!" * 1_999,
    "minus signs": "-" * 1_990 + "1 == 1",
    "choices": "true" + " ? true : true" * 140,
    "a long text": "true || " * 1_000 + "true",
    "all of them": "payload.exists(k, size(k) > 0)",
}
ERRORS = {
    "a long way down": "payload" + ".a" * 990 + " == 1",
    "an index after the other": "payload.l" + "[0]" * 600 + " == 1",
    "overflow": "9223372036854775807 + 1 > 0",
    "the smallest by minus one": "(-9223372036854775807 - 1) / -1 == 1",
    "by nothing": "1 % 0 == 1",
    "a time beyond": "timestamp('9999-12-31T23:59:59Z') + duration('2562047h') > timestamp('x')",
    "a place beyond": "payload.l[9223372036854775807] == 1",
    "no number": "int('9' + '9') > 0 && int(1e300) > 0",
    "a key of lists": "{[1]: 1}.size() == 1",
    "mixed": "'a' < 1",
}
ANSWERED = {
    "a text many times": f"[{','.join(['payload.s'] * 190)}].size() > 0",
    "nested stars": "payload.s.matches('(a*)*b')",
    "nested choices": "payload.s.matches('(a|a|a)*b')",
    "in in in": "1" + " in [1]" * 200 + " || true",
    "minus": "payload.n" + " - 1" * 300 + " < 0",
    "deep data": "payload.deep == payload.deep",
    "a large map": "payload.m == payload.m",
    "a pattern for ids": "payload.s.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$')",
}


def outcome(source: str, data: dict[str, Any]) -> str:
    """Say what becomes of an expression."""
    condition = Condition(source)
    if condition.problem is not None:
        return "refused"
    try:
        condition.holds(data, None, {})
    except ConditionError as error:
        return "refused" if "too much data" in error.reason else "error"
    return "answered"


def main() -> None:
    """Print the outcomes."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    data = payload()
    every = {**REFUSED, **ERRORS, **ANSWERED}
    print(json.dumps({name: outcome(source, data) for name, source in every.items()}))


if __name__ == "__main__":
    main()

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Guards that end users write: expressions of the Common Expression Language.

An expression sees three variables (payload, signal, metadata) and a fixed list of functions, none
of which reaches outside. The interpreter has no budget and can't be stopped, so what could make it
slow is refused before it runs: long or deeply nested texts, macros that build values (``map``),
loops in loops in loops, regular expressions that are computed, large, or many.

What remains costs at most ``(weight * (1 + pluses) ** 2) ** (1 + loops)``, times what its regular
expressions and its many looks at the data ask for: the weight of the data that it sees is gone
through once more by each loop around a loop, and each addition copies what the ones before it
built. Above MAX_COST, which is one to three seconds at the worst, it is refused too. Measured on
CPython 3.13: a step of a loop copies what it looks at, a microsecond for each entry; a regular
expression of 100 classes takes 5 s for a million letters beyond ASCII.
"""

import re
from typing import Any

from forktex_core.flow.errors import DefinitionError, FlowError
from forktex_core.flow.graph.comparison import Comparison, answer, comparisons
from forktex_core.flow.graph.pattern import pattern_size

MAX_LENGTH = 2_000
MAX_DEPTH = 24
MAX_LOOPS = 2
MAX_COST = 4_000_000
MAX_PATTERNS = 8
_LOOKS = 8

_VARIABLES = frozenset({"payload", "signal", "metadata"})
_LOOPS = frozenset({"all", "exists", "exists_one", "filter"})
_FUNCTIONS = _LOOPS | frozenset(
    """size contains startsWith endsWith matches has int uint double string bool type max min
    timestamp duration getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours
    getMinutes getSeconds getMilliseconds""".split()
)
_TOKEN = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<name>[A-Za-z_]\w*) | (?P<number>\d[\w.]*) | (?P<open>[(\[{]) | (?P<close>[)\]}])
      | (?P<rest>[^\s\w]) | (?P<space>\s+)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


class ConditionError(FlowError):
    """A guard's expression could not be evaluated for a run."""

    def __init__(self, source: str, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(
            f"the condition {source!r:.200} can't be evaluated: {reason}; ask has(payload.field) "
            "for what may be missing"
        )


class Condition:
    """A CEL expression that is true or false.

    Args:
        source: the expression, over ``payload``, ``signal`` and ``metadata``.

    Making one does not raise: ``problem`` says what is wrong with it, None when nothing is.
    """

    __slots__ = ("_context", "_program", "_simple", "looks", "loops", "names", "patterns", "pluses",
                 "problem", "source")  # fmt: skip

    def __init__(self, source: str) -> None:
        self.source = source
        self._program: Any = None
        self._context: Any = None
        self._simple: tuple[Comparison, ...] = ()
        self.loops = self.pluses = self.patterns = self.looks = 0
        self.names: dict[str, set[str] | None] = {}
        try:
            self._inspect(source)
            self._program, self._context = _compile(source)
            self._simple = comparisons(source)
            self.problem: str | None = None
        except DefinitionError as error:
            self.problem = str(error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"

    def _inspect(self, source: str) -> None:
        if not source.strip():
            raise DefinitionError("a condition is an expression, not nothing")
        if len(source) > MAX_LENGTH:
            raise DefinitionError(
                f"the condition is {len(source):,} characters long, {MAX_LENGTH:,} are allowed"
            )
        _Inspection(self, _tokens(source))

    def holds(self, payload: Any, signal: Any, metadata: Any) -> bool:
        """Evaluate the expression.

        Raises:
            ConditionError: it can't be evaluated, is not a boolean, or would take too long.
        """
        if self._program is None:
            raise ConditionError(self.source, self.problem or "it does not compile")
        if self._simple:
            simply = answer(self._simple, (payload, signal, metadata))
            if simply is not None:
                return simply
        seen = self._seen(payload, signal, metadata)
        if self._costly and self._cost(seen) > MAX_COST:
            raise ConditionError(self.source, "it would go through too much data")
        try:
            result = self._program.execute(self._context(variables=seen))
        except KeyError as error:
            raise ConditionError(self.source, f"there is no {error.args[0]!r}") from error
        except Exception as error:
            raise ConditionError(self.source, str(error).split("\n")[0][:200]) from error
        if not isinstance(result, bool):
            raise ConditionError(self.source, f"it is a {type(result).__name__}, not a bool")
        return result

    @property
    def _costly(self) -> bool:
        return bool(self.loops or self.pluses or self.patterns) or self.looks > _LOOKS

    def _cost(self, seen: dict[str, Any]) -> int:
        weight = (len(self.source) + _weight(seen)) * (1 + self.pluses) ** 2
        looks = max(1, self.looks // _LOOKS)
        return int(weight ** (1 + self.loops)) * looks * max(1, self.patterns)

    def _seen(self, payload: Any, signal: Any, metadata: Any) -> dict[str, Any]:
        """Return what the expression may look at. What it doesn't name isn't carried over to it:
        that costs some microseconds for each field.
        """
        seen = {}
        for name, fields in self.names.items():
            value = payload if name == "payload" else signal if name == "signal" else metadata
            if fields is not None and isinstance(value, dict):
                value = {field: value[field] for field in fields if field in value}
            seen[name] = value
        return seen


class _Inspection:
    """One pass over the tokens: depth, loops, functions, variables."""

    def __init__(self, condition: Condition, tokens: list[tuple[str, str]]) -> None:
        self._condition = condition
        self._tokens = tokens
        self._open: list[bool] = []
        self._matches = 0
        self._bound = set(_VARIABLES) | {"true", "false", "null", "in"}
        for place, (kind, text) in enumerate(tokens):
            getattr(self, f"_{kind}", lambda *_: None)(place, text)
        if self._open:
            raise DefinitionError("the condition leaves a bracket open")

    def _before(self, place: int) -> str:
        return self._tokens[place - 1][1] if place else ""

    def _after(self, place: int) -> str:
        return self._tokens[place + 1][1] if place + 1 < len(self._tokens) else ""

    def _open_bracket(self, *, loop: bool) -> None:
        self._open.append(loop)
        if len(self._open) > MAX_DEPTH:
            raise DefinitionError(f"the condition nests more than {MAX_DEPTH} brackets")
        loops = sum(self._open)
        if loops > MAX_LOOPS:
            raise DefinitionError(f"the condition nests more than {MAX_LOOPS} loops")
        self._condition.loops = max(self._condition.loops, loops)

    def _open_(self, place: int, text: str) -> None:
        self._open_bracket(loop=text == "(" and self._before(place) in _LOOPS)

    def _close(self, place: int, text: str) -> None:
        if not self._open:
            raise DefinitionError("the condition closes a bracket that is not open")
        self._open.pop()

    def _rest(self, place: int, text: str) -> None:
        self._condition.pluses += text == "+"
        if text in "!-" and place >= MAX_DEPTH:
            run = self._tokens[place - MAX_DEPTH : place]
            if all(token[1] == text for token in run):
                raise DefinitionError(f"the condition has more than {MAX_DEPTH} signs in a row")

    def _name(self, place: int, text: str) -> None:
        member = self._before(place) == "."
        if self._after(place) == "(":
            self._call(place, text)
        elif not member and text in _VARIABLES:
            self._condition.looks += 1
            self._look(place, text)
        elif not member and text not in self._bound:
            raise DefinitionError(
                f"the condition names {text!r}: it may use payload, signal and metadata"
            )

    def _look(self, place: int, name: str) -> None:
        """Note which fields of a variable are looked at; None: perhaps all of them."""
        names = self._condition.names
        kinds = [kind for kind, _ in self._tokens[place + 1 : place + 3]]
        if self._after(place) == "." and kinds[1:] == ["name"] and self._after(place + 2) != "(":
            fields = names.setdefault(name, set())
            if fields is not None:
                fields.add(self._after(place + 1))
        else:
            names[name] = None

    def _call(self, place: int, text: str) -> None:
        if text not in _FUNCTIONS:
            raise DefinitionError(f"the condition calls {text!r}, which is not allowed")
        if text in _LOOPS:
            kind, bound = self._tokens[place + 2] if place + 2 < len(self._tokens) else ("", "")
            if kind == "name":
                self._bound.add(bound)
        if text == "matches":
            self._pattern(self._tokens[place + 2 : place + 4])

    def _pattern(self, argument: list[tuple[str, str]]) -> None:
        if any(self._open) or [kind for kind, _ in argument] != ["string", "close"]:
            raise DefinitionError(
                "matches() takes one string literal, and can't stand inside of a loop"
            )
        self._matches += 1
        if self._matches > MAX_PATTERNS:
            raise DefinitionError(f"the condition has more than {MAX_PATTERNS} regular expressions")
        self._condition.patterns += pattern_size(argument[0][1])


def _tokens(source: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(source):
        match = _TOKEN.match(source, place)
        if match is None:
            raise DefinitionError(f"the condition has a stray {source[place]!r}")
        place = match.end()
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(("open_" if kind == "open" else kind, match[0]))
    return found


def _compile(source: str) -> tuple[Any, Any]:
    """Return the program, and the class of what it is given."""
    import cel

    try:
        return cel.compile(source), cel.Context
    except Exception as error:
        lines = [line for line in str(error).split("\n") if "ERROR" in line]
        reason = lines[0].partition("<input>:")[2] if lines else str(error).split("\n")[0]
        raise DefinitionError(f"the condition is no CEL expression: {reason[:200]}") from error


def _weight(value: Any) -> int:
    """Return about how many steps it takes to go through a value once."""
    total, left = 0, [value]
    while left:
        here = left.pop()
        total += 1
        if isinstance(here, str):
            total += len(here) // 16
        elif isinstance(here, dict):
            left.extend(here.values())
        elif isinstance(here, list | tuple):
            left.extend(here)
        if total > MAX_COST:
            break
    return total

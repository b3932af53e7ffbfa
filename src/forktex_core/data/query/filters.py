# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a query asks of rows: conditions, and how they are combined.

`Q(status="paid", amount__gte=100) | ~Q(customer__country="RO")`. A name is a field, or a path of
relationships that ends in one; what follows the last `__` is an operator when it is the name of
one, `eq` when there is none. The same tree has a JSON form: `{"field": ..., "op": ..., "value":
...}` and `{"and": [...]}`, `{"or": [...]}`, `{"not": ...}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forktex_core.data.errors import QueryError, QueryLimitError
from forktex_core.data.limits import Limits

OPERATORS = frozenset(
    (
        "eq ne lt lte gt gte in not_in between contains icontains startswith istartswith regex "
        "is_null any all none within near"
    ).split()
)


@dataclass(frozen=True)
class Condition:
    """One field compared with a value: `path` leads to it over relationships."""

    path: tuple[str, ...]
    operator: str
    value: Any


@dataclass(frozen=True)
class All:
    """Every part holds; true without parts."""

    parts: tuple["Filter", ...] = ()


@dataclass(frozen=True)
class Some:
    """One part holds at least; false without parts."""

    parts: tuple["Filter", ...] = ()


@dataclass(frozen=True)
class Not:
    """The part does not hold (a comparison with a null does not hold)."""

    part: "Filter"


Filter = Condition | All | Some | Not


class Q:
    """Conditions that all hold, to be combined by `&`, `|` and `~`."""

    __slots__ = ("filter",)

    def __init__(self, *others: "Q", **conditions: Any) -> None:
        named = [condition(name, value) for name, value in conditions.items()]
        parts = (*(each.filter for each in others), *named)
        self.filter: Filter = parts[0] if len(parts) == 1 else All(parts)

    @classmethod
    def of(cls, made: Filter) -> "Q":
        """The Q of a filter."""
        found = cls()
        found.filter = made
        return found

    def __and__(self, other: "Q") -> "Q":
        return Q.of(All((self.filter, other.filter)))

    def __or__(self, other: "Q") -> "Q":
        return Q.of(Some((self.filter, other.filter)))

    def __invert__(self) -> "Q":
        return Q.of(Not(self.filter))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Q) and self.filter == other.filter

    def __hash__(self) -> int:
        return hash(self.filter)

    def __repr__(self) -> str:
        return f"Q({self.filter})"


def condition(name: str, value: Any) -> Condition:
    """The condition that a keyword such as `customer__country__in` names."""
    path = name.split("__")
    operator = path.pop() if len(path) > 1 and path[-1] in OPERATORS else "eq"
    return Condition(tuple(path), operator, value)


def from_json(given: Any, limits: Limits, path: str = "where") -> Filter:
    """The filter that a JSON value describes; raises `QueryError` with the path of the mistake."""
    return _Reader(limits).read(given, path, limits.query_depth)


class _Reader:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.query_conditions

    def read(self, given: Any, path: str, depth: int) -> Filter:
        if depth <= 0:
            raise QueryLimitError(path, f"more than {self._limits.query_depth} levels deep")
        if not isinstance(given, Mapping):
            raise QueryError(path, "a condition is an object")
        if "field" in given:
            return self._condition(given, path)
        if len(given) == 1:
            ((key, inner),) = given.items()
            if key == "not":
                return Not(self.read(inner, f"{path}.not", depth - 1))
            if key in {"and", "or"} and isinstance(inner, list):
                parts = [
                    self.read(each, f"{path}.{key}[{at}]", depth - 1)
                    for at, each in enumerate(inner)
                ]
                return All(tuple(parts)) if key == "and" else Some(tuple(parts))
        raise QueryError(
            path, 'has neither "field" nor one of "and" (a list), "or" (a list), "not"'
        )

    def _condition(self, given: Mapping[str, Any], path: str) -> Condition:
        self._left -= 1
        if self._left < 0:
            most = self._limits.query_conditions
            raise QueryLimitError(path, f"more than {most} conditions")
        for key in given:
            if key not in {"field", "op", "value"}:
                raise QueryError(path, f"a condition has field, op and value, not {key!r}")
        name, operator = given["field"], given.get("op", "eq")
        if not isinstance(name, str):
            raise QueryError(f"{path}.field", "a field's name is text")
        if operator not in OPERATORS:
            raise QueryError(f"{path}.op", f"{operator!r} is no operator")
        return Condition(tuple(name.split(".")), operator, given.get("value"))


def to_json(given: Filter) -> dict[str, Any]:
    """The JSON form of a filter."""
    if isinstance(given, Condition):
        return {"field": ".".join(given.path), "op": given.operator, "value": given.value}
    if isinstance(given, Not):
        return {"not": to_json(given.part)}
    return {"and" if isinstance(given, All) else "or": [to_json(each) for each in given.parts]}

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A filter checked against a definition: names are columns, values have the form of their field.

Binding happens once for a query; what answers it (the SQL compiler, the evaluation in Python) finds
nothing left to refuse. Comparisons are two-valued: one with a null does not hold, so that `Not`
means what it says.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from forktex_core.data.definition import FieldDefinition, RegisterDefinition
from forktex_core.data.errors import (
    InvalidValueError,
    QueryError,
    QueryLimitError,
    UnknownFieldError,
)
from forktex_core.data.limits import Limits
from forktex_core.data.query.filters import All, Condition, Filter, Not
from forktex_core.data.types import (
    Date,
    FieldType,
    Integer,
    Kind,
    Moment,
    Reference,
    Uuid,
    ValueRefusedError,
)
from forktex_core.data.types.field_type import clean_text, fold
from forktex_core.data.types.texts import _TextType


@dataclass(frozen=True)
class _Actor(FieldType):
    """Who made or changed a row: text that is compared as it is."""

    type_name: ClassVar[str] = "actor"
    kind: ClassVar[Kind | None] = "text"
    python: ClassVar[Any] = str

    def coerce(self, value: Any) -> Any:
        return clean_text(value, longest=1_000)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}


def _system(name: str, kind: FieldType) -> FieldDefinition:
    return FieldDefinition(0, name, kind, column=name, column_state="ready", indexed=True)


SYSTEM: Mapping[str, FieldDefinition] = {
    "id": _system("id", Uuid()),
    "revision": _system("revision", Integer()),
    "created_at": _system("created_at", Moment()),
    "updated_at": _system("updated_at", Moment()),
    "created_by": _system("created_by", _Actor()),
    "updated_by": _system("updated_by", _Actor()),
    "archived_at": _system("archived_at", Moment()),
}


@dataclass(frozen=True)
class Compare:
    """One field compared: `stored` and `key` are the value's forms (tuples of them for lists)."""

    field: FieldDefinition
    operator: str
    stored: Any = None
    key: Any = None


@dataclass(frozen=True)
class Related:
    """A condition on the row that a reference leads to."""

    field: FieldDefinition
    target: RegisterDefinition
    part: "Bound"


@dataclass(frozen=True)
class BoundAll:
    """Every part holds."""

    parts: tuple["Bound", ...]


@dataclass(frozen=True)
class BoundSome:
    """One part holds at least."""

    parts: tuple["Bound", ...]


@dataclass(frozen=True)
class BoundNot:
    """The part does not hold."""

    part: "Bound"


Bound = Compare | Related | BoundAll | BoundSome | BoundNot
Registers = Mapping[str, RegisterDefinition]


def relationships(given: Filter) -> set[tuple[str, ...]]:
    """The paths of references that a filter goes along."""
    if isinstance(given, Condition):
        return {given.path[:at] for at in range(1, len(given.path))}
    parts = (given.part,) if isinstance(given, Not) else given.parts
    return set().union(*map(relationships, parts))


def find_field(definition: RegisterDefinition, name: str, path: str) -> FieldDefinition:
    """A field of the register or of every row; raises `UnknownFieldError`."""
    found = definition.by_name.get(name) or SYSTEM.get(name)
    if found is None:
        known = [*definition.by_name, *SYSTEM]
        raise UnknownFieldError(path, definition.name, name, known)
    return found


class Binder:
    """Binds the filters of one query; `registers` are those that references lead to, by name."""

    def __init__(self, registers: Registers, limits: Limits, now: datetime) -> None:
        self._registers = registers
        self._limits = limits
        self._now = now
        self._left = limits.query_conditions

    def bind(self, definition: RegisterDefinition, given: Filter, depth: int = 0) -> Bound:
        """The bound filter; raises `QueryError`, with the path of what is wrong."""
        if depth > self._limits.query_depth:
            raise QueryLimitError("where", f"more than {self._limits.query_depth} levels deep")
        if isinstance(given, Condition):
            self._left -= 1
            if self._left < 0:
                most = self._limits.query_conditions
                raise QueryLimitError("where", f"more than {most} conditions")
            return self._condition(definition, given.path, given)
        if isinstance(given, Not):
            return BoundNot(self.bind(definition, given.part, depth + 1))
        parts = tuple(self.bind(definition, each, depth + 1) for each in given.parts)
        return BoundAll(parts) if isinstance(given, All) else BoundSome(parts)

    def _condition(
        self, definition: RegisterDefinition, path: tuple[str, ...], given: Condition
    ) -> Bound:
        place = "__".join(given.path)
        found = find_field(definition, path[0], place)
        if len(path) == 1:
            return self._compare(found, given.operator, given.value, place)
        if not isinstance(found.type, Reference):
            message = f"{found.name!r} is no relationship that a path could follow"
            raise QueryError(place, message)
        target = self._registers[found.type.register]
        return Related(found, target, self._condition(target, path[1:], given))

    def _compare(self, found: FieldDefinition, operator: str, value: Any, path: str) -> Bound:
        kind = found.type
        if operator not in kind.operators:
            known = ", ".join(sorted(kind.operators))
            message = f"{kind.type_name} fields know {known}, not {operator!r}"
            raise InvalidValueError(path, message)
        if operator in _NEGATED:
            return BoundNot(self._compare(found, _NEGATED[operator], value, path))
        if operator == "is_null":
            if not isinstance(value, bool):
                raise InvalidValueError(path, "is_null is true or false")
            test = Compare(found, "is_null")
            return test if value else BoundNot(test)
        if operator == "eq" and value is None:
            return Compare(found, "is_null")
        return self._valued(found, operator, value, path)

    def _valued(self, found: FieldDefinition, operator: str, value: Any, path: str) -> Bound:
        kind = found.type
        if operator == "within":
            return self._between(found, *relative_range(value, self._now, path), path)
        if operator == "between":
            low, high = self._values(value, path, exactly=2)
            return self._between(found, low, high, path)
        if operator in {"in", "any", "all"}:
            return self._several(found, operator, value, path)
        if operator in _TEXTUAL or operator == "near":
            return self._special(found, operator, value, path)
        stored = self._stored(kind, _as_asked(kind, value), path)
        return Compare(found, operator, stored, kind.key(stored))

    def _special(self, found: FieldDefinition, operator: str, value: Any, path: str) -> Bound:
        if operator == "regex":
            return Compare(found, "regex", checked_regex(value, self._limits, path))
        if operator == "near":
            return Compare(found, "near", near(value, path))
        if not isinstance(value, str) or not value or "\0" in value:
            raise InvalidValueError(path, f"{operator} takes text that is not empty")
        return Compare(found, operator, value, fold(value))

    def _several(self, found: FieldDefinition, operator: str, value: Any, path: str) -> Bound:
        kind = found.type
        values = [self._stored(kind, each, path) for each in self._values(value, path)]
        if operator == "in":
            return Compare(found, "in", tuple(values), tuple(map(kind.key, values)))
        apart = dict.fromkeys(each for part in values for each in part)
        return Compare(found, operator, tuple(apart))

    def _between(self, found: FieldDefinition, low: Any, high: Any, path: str) -> Bound:
        return BoundAll(
            (
                self._valued(found, "gte", low, path),
                self._valued(found, "lte", high, path),
            )
        )

    def _values(self, value: Any, path: str, exactly: int | None = None) -> list[Any]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise InvalidValueError(path, "takes a list of values")
        values = list(value)
        if exactly is not None and len(values) != exactly:
            raise InvalidValueError(path, f"takes {exactly} values, not {len(values)}")
        if len(values) > self._limits.values_per_condition:
            most = self._limits.values_per_condition
            raise QueryLimitError(path, f"more than {most} values")
        return values

    def _stored(self, kind: FieldType, value: Any, path: str) -> Any:
        many = kind.kind is None and "any" in kind.operators
        try:
            return kind.coerce([value] if many and not isinstance(value, list) else value)
        except ValueRefusedError as exc:
            raise InvalidValueError(path, f"the value {exc}") from exc


_TEXTUAL = frozenset({"contains", "icontains", "startswith", "istartswith", "regex"})
_NEGATED = {"ne": "eq", "not_in": "in", "none": "any"}


def _as_asked(kind: FieldType, value: Any) -> Any:
    """A day where a moment is asked for is its first one; a moment where a day is, its day."""
    if isinstance(kind, Moment) and type(value) is date:
        return datetime.combine(value, time(), UTC)
    if isinstance(kind, Date) and isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).date()
    return value


_RELATIVE = re.compile(r"(last|next) (\d{1,5}) (minute|hour|day|week)s?")
_UNITS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}


def relative_range(value: Any, now: datetime, path: str) -> tuple[datetime, datetime]:
    """The moments between which "last 30 days" lies, seen from `now`."""
    match = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidValueError(path, 'takes a range such as "last 30 days" or "next 2 weeks"')
    length = timedelta(seconds=int(match[2]) * _UNITS[match[3]])
    return (now - length, now) if match[1] == "last" else (now, now + length)


def checked_regex(value: Any, limits: Limits, path: str) -> str:
    """A regular expression whose cost is bounded by the length of what it is matched with.

    No back-references, no look-around, no repetition of what repeats: the rest is matched by an
    automaton, in PostgreSQL and everywhere.
    """
    if not isinstance(value, str) or not 0 < len(value) <= limits.regex_length:
        raise InvalidValueError(
            path, f"takes a pattern of at most {limits.regex_length} characters"
        )
    if re.search(r"\\[0-9A-Za-z]|\(\?|\[\[|\*\*\*|\0", value) or re.search(r"[*+}]\)?[*+{]", value):
        message = "takes a plain pattern: no back-references, classes by letter, groups with ?"
        raise InvalidValueError(path, message)
    if re.search(r"\{\d{3,}|,\d{3,}\}", value):
        raise InvalidValueError(path, "repeats something 100 times or more")
    try:
        re.compile(value)
    except re.error as exc:
        raise InvalidValueError(path, f"is no regular expression: {exc}") from exc
    return value


def near(value: Any, path: str) -> tuple[float, float, float]:
    """Latitude, longitude and radius in kilometres."""
    if not isinstance(value, Mapping) or set(value) != {"lat", "lon", "km"}:
        raise InvalidValueError(path, 'takes {"lat": 44.43, "lon": 26.10, "km": 5}')
    found = tuple(value[name] for name in ("lat", "lon", "km"))
    bounds = (90, 180, 25_000)
    if any(
        isinstance(each, bool) or not isinstance(each, int | float) or not abs(each) <= most
        for each, most in zip(found, bounds, strict=True)
    ):
        raise InvalidValueError(path, "has degrees or kilometres that are none")
    return (float(found[0]), float(found[1]), float(found[2]))


def is_text(found: FieldDefinition) -> bool:
    """Whether a field's key is folded text, so that equality looks at the value too."""
    return isinstance(found.type, _TextType)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The order of rows, and where in it a page begins.

Rows are ordered by the keys of the fields asked for, then by id, so the order is total and a page
begins exactly behind a row, whatever is inserted meanwhile. Nulls come last unless asked for
first, in either direction. When the first key can be null, the order falls into two segments, the
rows with a value and those without; each is read apart, so that the index on the values serves the
first and no row is lost between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

from forktex_core.data.definition import FieldDefinition, RegisterDefinition
from forktex_core.data.errors import InvalidValueError, QueryError, QueryLimitError
from forktex_core.data.query.bound import find_field
from forktex_core.data.query.compile import _CASTS, Statement, key_sql
from forktex_core.data.query.evaluate import Stored, key_value

Nulls = Literal["first", "last"]
Segment = Literal["values", "nulls"]
_MOST_KEYS = 8


@dataclass(frozen=True)
class OrderKey:
    """One field that rows are ordered by."""

    field: FieldDefinition
    descending: bool
    nulls_first: bool

    @property
    def nullable(self) -> bool:
        """Whether rows may lack the value."""
        return self.field.number != 0 or self.field.name in {
            "created_by",
            "updated_by",
            "archived_at",
        }


@dataclass(frozen=True)
class Position:
    """Behind which row a page begins: its keys, and its id."""

    keys: tuple[Any, ...]
    id: UUID


def order_keys(
    definition: RegisterDefinition, names: Sequence[str], nulls: Nulls
) -> tuple[OrderKey, ...]:
    """The keys that `order_by("-issued_at", "number")` names; raises `QueryError`."""
    if len(names) > _MOST_KEYS:
        raise QueryLimitError("order_by", f"more than {_MOST_KEYS} fields")
    if nulls not in {"first", "last"}:
        raise InvalidValueError("order_by", f"nulls come first or last, not {nulls!r}")
    found = []
    for name in names:
        if not isinstance(name, str):
            raise QueryError("order_by", "a field's name is text")
        made = find_field(definition, name.removeprefix("-"), "order_by")
        if made.type.kind is None:
            message = f"{made.type.type_name} fields such as {made.name!r} have no order"
            raise InvalidValueError("order_by", message)
        found.append(OrderKey(made, name.startswith("-"), nulls == "first"))
    return tuple(found)


def position_of(keys: tuple[OrderKey, ...], row: Stored) -> Position:
    """Where a row stands in the order."""
    return Position(tuple(key_value(each.field, row) for each in keys), row.id)


def segments(keys: tuple[OrderKey, ...], after: Position | None) -> tuple[Segment | None, ...]:
    """The segments that a page which begins at `after` may reach, in order."""
    if not keys or not keys[0].nullable:
        return (None,)
    both: tuple[Segment, Segment] = (
        ("nulls", "values") if keys[0].nulls_first else ("values", "nulls")
    )
    if after is None:
        return both
    begun: Segment = "nulls" if after.keys[0] is None else "values"
    return both[both.index(begun) :]


def segment_sql(keys: tuple[OrderKey, ...], segment: Segment | None, alias: str) -> str:
    """The condition that keeps to a segment."""
    if segment is None:
        return "true"
    return f"{key_sql(keys[0].field, alias)} IS {'NOT ' if segment == 'values' else ''}NULL"


def order_sql(keys: tuple[OrderKey, ...], segment: Segment | None, alias: str) -> str:
    """The ORDER BY within a segment."""
    parts = []
    for at, each in enumerate(keys):
        if at == 0 and segment == "nulls":
            continue
        direction = " DESC" if each.descending else ""
        apart = at == 0 and segment is not None
        nulls = "" if apart or not each.nullable else f" NULLS {_nulls(each)}"
        parts.append(f"{key_sql(each.field, alias)}{direction}{nulls}")
    return ", ".join([*parts, f"{alias}.id{_id_direction(keys)}"])


def _nulls(key: OrderKey) -> str:
    return "FIRST" if key.nulls_first else "LAST"


def _id_direction(keys: tuple[OrderKey, ...]) -> str:
    return " DESC" if keys and keys[-1].descending else ""


def after_sql(
    statement: Statement,
    keys: tuple[OrderKey, ...],
    after: Position | None,
    segment: Segment | None,
    alias: str,
) -> str:
    """The condition that a row of the segment comes behind the position."""
    if after is None or (segment == "nulls" and after.keys[0] is not None):
        return "true"  # the segment begins where the other one ended
    if segment == "values" and after.keys[0] is None:
        return "true"
    pairs = list(zip(keys, after.keys, strict=True))[1 if segment == "nulls" else 0 :]
    place = statement.arg(after.id, "uuid")
    symbol = "<" if _id_direction(keys) else ">"
    # One comparison of rows, which an index answers, where no null can be among what it compares.
    if not pairs or (len(pairs) == 1 and segment != "nulls" and pairs[0][1] is not None):
        columns = [key_sql(each.field, alias) for each, _ in pairs]
        values = [statement.arg(value, _CASTS[str(each.field.type.kind)]) for each, value in pairs]
        return f"({', '.join([*columns, f'{alias}.id'])}) {symbol} ({', '.join([*values, place])})"
    return _chain(statement, pairs, f"{alias}.id {symbol} {place}", segment, alias)


def _chain(
    statement: Statement,
    pairs: list[tuple[OrderKey, Any]],
    last: str,
    segment: Segment | None,
    alias: str,
) -> str:
    """Behind in the first key, or equal there and behind in the next, and so on."""
    ways = []
    equal: list[str] = []
    for at, (key, value) in enumerate(pairs):
        column = key_sql(key.field, alias)
        if value is None:
            if key.nulls_first:
                ways.append(" AND ".join([*equal, f"{column} IS NOT NULL"]))
            equal.append(f"{column} IS NULL")
            continue
        place = statement.arg(value, _CASTS[str(key.field.type.kind)])
        behind = f"{column} {'<' if key.descending else '>'} {place}"
        if key.nullable and not key.nulls_first and not (at == 0 and segment == "values"):
            behind = f"({behind} OR {column} IS NULL)"
        ways.append(" AND ".join([*equal, behind]))
        equal.append(f"{column} = {place}")
    ways.append(" AND ".join([*equal, last]))
    return "(" + " OR ".join(f"({each})" for each in ways) + ")"


def sort_rows(keys: tuple[OrderKey, ...], rows: list[Stored]) -> list[Stored]:
    """The same order in Python: stable sorts, from the last key to the first."""
    rows = sorted(rows, key=lambda row: row.id, reverse=bool(_id_direction(keys)))
    for each in reversed(keys):
        valued = [row for row in rows if key_value(each.field, row) is not None]
        nulls = [row for row in rows if key_value(each.field, row) is None]
        valued.sort(key=partial(key_value, each.field), reverse=each.descending)
        rows = nulls + valued if each.nulls_first else valued + nulls
    return rows


def is_behind(keys: tuple[OrderKey, ...], row: Stored, after: Position) -> bool:
    """Whether a row comes behind the position, in Python."""
    for each, value in zip(keys, after.keys, strict=True):
        own = key_value(each.field, row)
        if own == value:
            continue
        if own is None or value is None:
            return (own is None) != each.nulls_first
        return bool(own < value if each.descending else own > value)
    return row.id < after.id if _id_direction(keys) else row.id > after.id

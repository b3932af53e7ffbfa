# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a bound filter to SQL. Names become columns that the definition holds, values become
arguments: no text that a user gave is ever part of a statement.

A field whose column is ready is compared there; any other by the same key, computed from the
payload. Both give the same answer (a property test compares them, and both with `evaluate`), so an
index may come and go while queries run.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from forktex_core.data.definition import KEY_CHARACTERS, FieldDefinition, RegisterDefinition
from forktex_core.data.query.bound import (
    Bound,
    BoundAll,
    BoundNot,
    BoundSome,
    Compare,
    Related,
)
from forktex_core.data.query.evaluate import _EARTH_KM, by_value
from forktex_core.data.store.migrate import quote

_CASTS = {"text": "text", "number": "numeric", "moment": "timestamptz", "uuid": "uuid"}
_SYMBOLS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LAST = "\U0010ffff"


@dataclass
class Statement:
    """The arguments of a statement that is being written."""

    schema: str
    args: list[Any] = field(default_factory=list)
    registers: dict[int, RegisterDefinition] = field(default_factory=dict)
    aliases: int = 0

    def arg(self, value: Any, kind: str) -> str:
        """The place of an argument of an SQL type."""
        self.args.append(value)
        return f"${len(self.args)}::{kind}"

    def alias(self) -> str:
        """A new name for a row."""
        self.aliases += 1
        return f"r{self.aliases}"

    def rows(self, definition: RegisterDefinition, alias: str) -> tuple[str, str]:
        """The table of a register's rows as `alias`, and the condition that keeps to them."""
        self.registers[definition.id] = definition
        if definition.table is not None:
            return f"{quote(self.schema)}.{quote(definition.table)} {alias}", "true"
        place = self.arg(definition.id, "bigint")
        return f"{quote(self.schema)}.row {alias}", f"{alias}.register_id = {place}"


def key_sql(found: FieldDefinition, alias: str) -> str:
    """The key of a field: its column when that is ready, computed from the payload otherwise."""
    if found.ready:
        return f"{alias}.{found.column}"
    return f"({found.type.key_sql(f'{alias}.payload', found.number)})"


def condition_sql(statement: Statement, bound: Bound, alias: str) -> str:
    """The SQL of a bound filter on the row `alias`: true or false, never null under a NOT."""
    if isinstance(bound, BoundAll):
        return _joined(statement, bound.parts, alias, " AND ", "true")
    if isinstance(bound, BoundSome):
        return _joined(statement, bound.parts, alias, " OR ", "false")
    if isinstance(bound, BoundNot):
        return f"(({condition_sql(statement, bound.part, alias)}) IS NOT TRUE)"
    if isinstance(bound, Related):
        return _related(statement, bound, alias)
    return _compare(statement, bound, alias)


def _joined(
    statement: Statement, parts: tuple[Bound, ...], alias: str, word: str, empty: str
) -> str:
    made = [condition_sql(statement, each, alias) for each in parts]
    return f"({word.join(made)})" if made else empty


def _related(statement: Statement, bound: Related, alias: str) -> str:
    other = statement.alias()
    table, own = statement.rows(bound.target, other)
    inner = condition_sql(statement, bound.part, other)
    return (
        f"EXISTS (SELECT 1 FROM {table} WHERE {own} AND {other}.id = {key_sql(bound.field, alias)} "  # noqa: S608 - names are numbers, values are arguments
        f"AND {other}.archived_at IS NULL AND {inner})"
    )


def _compare(statement: Statement, bound: Compare, alias: str) -> str:
    found, operator = bound.field, bound.operator
    if found.number == 0:
        return _system(statement, bound, alias)
    if operator in _SPECIAL:
        return _SPECIAL[operator](statement, bound, alias)
    if operator == "eq":
        return _equal(statement, bound, alias)
    assert found.type.kind is not None  # no type without keys has an order
    place = statement.arg(bound.key, _CASTS[found.type.kind])
    return f"{key_sql(found, alias)} {_SYMBOLS[operator]} {place}"


def _is_null(_statement: Statement, bound: Compare, alias: str) -> str:
    if bound.field.ready:
        return f"{alias}.{bound.field.column} IS NULL"
    return f"NOT {alias}.payload ? '{bound.field.number}'"


def _equal(statement: Statement, bound: Compare, alias: str) -> str:
    found = bound.field
    tests = []
    if found.type.kind is not None and (found.ready or not by_value(found)):
        place = statement.arg(bound.key, _CASTS[found.type.kind])
        tests.append(f"{key_sql(found, alias)} = {place}")
    if by_value(found):
        stored = statement.arg(json.dumps(bound.stored), "jsonb")
        tests.append(f"{alias}.payload->'{found.number}' = {stored}")
    return f"({' AND '.join(tests)})"


def _in(statement: Statement, bound: Compare, alias: str) -> str:
    found = bound.field
    key = key_sql(found, alias)
    kind = found.type.kind
    assert kind is not None  # no type without keys knows "in"
    if not by_value(found):
        return f"{key} = ANY({statement.arg(list(bound.key), _CASTS[kind] + '[]')})"
    stored = statement.arg([json.dumps(each) for each in bound.stored], "jsonb[]")
    exact = f"{alias}.payload->'{found.number}' = ANY({stored})"
    if not found.ready:
        return exact
    return f"({key} = ANY({statement.arg(list(bound.key), _CASTS[kind] + '[]')}) AND {exact})"


def _system(statement: Statement, bound: Compare, alias: str) -> str:
    kind = bound.field.type.kind
    assert kind is not None
    column, cast = f"{alias}.{bound.field.column}", _CASTS[kind]
    if bound.operator == "is_null":
        return f"{column} IS NULL"
    if bound.operator == "in":
        return f"{column} = ANY({statement.arg(list(bound.key), cast + '[]')})"
    return f"{column} {_SYMBOLS[bound.operator]} {statement.arg(bound.key, cast)}"


def _value_text(found: FieldDefinition, alias: str) -> str:
    return f"{alias}.payload->>'{found.number}'"


def _folded_text(found: FieldDefinition, alias: str) -> str:
    made: Any = found.type
    return str(made.folded_sql(f"{alias}.payload", found.number))


def _contains(statement: Statement, bound: Compare, alias: str) -> str:
    place = statement.arg(bound.stored, "text")
    return f"strpos({_value_text(bound.field, alias)}, {place}) > 0"


def _icontains(statement: Statement, bound: Compare, alias: str) -> str:
    return f"strpos({_folded_text(bound.field, alias)}, {statement.arg(bound.key, 'text')}) > 0"


def _prefix_range(statement: Statement, bound: Compare, alias: str) -> str:
    prefix = bound.key[:KEY_CHARACTERS]
    key = key_sql(bound.field, alias)
    low, high = statement.arg(prefix, "text"), statement.arg(prefix + _LAST, "text")
    return f"{key} >= {low} AND {key} < {high}"


def _startswith(statement: Statement, bound: Compare, alias: str) -> str:
    exact = f"starts_with({_value_text(bound.field, alias)}, {statement.arg(bound.stored, 'text')})"
    return f"({_prefix_range(statement, bound, alias)} AND {exact})"


def _istartswith(statement: Statement, bound: Compare, alias: str) -> str:
    folded = f"starts_with({_folded_text(bound.field, alias)}, {statement.arg(bound.key, 'text')})"
    return f"({_prefix_range(statement, bound, alias)} AND {folded})"


def _regex(statement: Statement, bound: Compare, alias: str) -> str:
    place = statement.arg(bound.stored, "text")
    return f'{_value_text(bound.field, alias)} COLLATE "C" ~ {place}'


def _overlap(statement: Statement, bound: Compare, alias: str) -> str:
    symbol = "?|" if bound.operator == "any" else "?&"
    place = statement.arg(list(bound.stored), "text[]")
    return f"{alias}.payload->'{bound.field.number}' {symbol} {place}"


def _near(statement: Statement, bound: Compare, alias: str) -> str:
    latitude, longitude, km = (statement.arg(each, "float8") for each in bound.stored)
    point = f"{alias}.payload->'{bound.field.number}'"
    lat, lon = f"({point}->>'lat')::float8", f"({point}->>'lon')::float8"
    half = (
        f"power(sin(radians({lat} - {latitude}) / 2), 2) + cos(radians({lat})) * "
        f"cos(radians({latitude})) * power(sin(radians({lon} - {longitude}) / 2), 2)"
    )
    return f"{2 * _EARTH_KM} * asin(least(1, sqrt({half}))) <= {km}"


_SPECIAL = {
    "is_null": _is_null,
    "in": _in,
    "contains": _contains,
    "icontains": _icontains,
    "startswith": _startswith,
    "istartswith": _istartswith,
    "regex": _regex,
    "any": _overlap,
    "all": _overlap,
    "near": _near,
}

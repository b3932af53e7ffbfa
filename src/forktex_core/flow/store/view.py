# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How the named queries look for a principal, and with the columns of extensions.

The ``.sql`` files mark the places, in comments: a Flow without extensions sends them as they are.

``/*visible x*/``  after the conditions on rows ``x`` of ``run`` or ``schedule``: the principal's
                   condition, with its parameters behind the query's own
``/*columns*/``    in the list of columns of an INSERT, and ``/*values*/`` in its list of values:
                   the extensions' columns; their values come behind the query's own parameters
``/*shown x*/``    in a list of results: the extensions' columns of ``x`` as one JSON text
``/*settings*/``   in the FROM of an INSERT: sets the principal's settings for this transaction. The
                   row depends on it, so it comes before any check of the new row, and the whole
                   remains one statement.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from forktex_core.flow.extension import Column, Condition
from forktex_core.flow.store.sql import queries, quote_identifier

_PARAMETER = re.compile(r"\$(\d+)")
_VISIBLE = re.compile(r"/\*visible (\w+)\*/")
_SHOWN = re.compile(r"/\*shown (\w+)\*/")


@dataclass(frozen=True, slots=True)
class View:
    """What a principal's statements carry."""

    columns: tuple[Column, ...] = ()
    condition: Condition | None = None
    settings: tuple[tuple[str, str], ...] = ()
    namespace: str | None = None

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the columns' values, in order, for an INSERT."""
        return tuple(given.get(column.name, column.default) for column in self.columns)

    def load(self, text: str | None) -> dict[str, Any]:
        """Return the columns' values from the JSON of ``/*shown x*/``."""
        import json

        found = json.loads(text) if text else {}
        return {c.name: c.load(found.get(c.name)) for c in self.columns}

    def queries(self, schema: str) -> dict[str, "Rendered"]:
        """Return all named queries as this view has them."""
        sql = None if self.condition is None else self.condition.sql
        count = 0 if self.condition is None else len(self.condition.parameters)
        return _rendered(schema, self.columns, sql, count, tuple(n for n, _ in self.settings))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A query's text, and what its parameters end with."""

    sql: str
    conditional: bool
    sets: bool

    def arguments(self, view: View, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return all arguments: those given, then the condition's, then the settings'."""
        if self.conditional and view.condition is not None:
            args += view.condition.parameters
        if self.sets:
            args += tuple(value for _, value in view.settings)
        return args


@lru_cache(maxsize=64)
def _rendered(
    schema: str, columns: tuple[Column, ...], condition: str | None, count: int,
    settings: tuple[str, ...],
) -> dict[str, Rendered]:  # fmt: skip
    return {
        name: _render(sql, columns, condition, count, settings)
        for name, sql in queries(schema).items()
    }


def _render(
    sql: str, columns: tuple[Column, ...], condition: str | None, count: int,
    settings: tuple[str, ...],
) -> Rendered:  # fmt: skip
    number = max((int(n) for n in _PARAMETER.findall(sql)), default=0)
    if "/*values*/" in sql:
        sql = _insert_columns(sql, columns, number + 1)
        number += len(columns)
    sql = _SHOWN.sub(lambda m: _shown(m[1], columns), sql)
    conditional = condition is not None and _VISIBLE.search(sql) is not None
    if condition is not None:
        text, first = Condition(condition), number + 1
        sql = _VISIBLE.sub(lambda m: f"AND ({text.at(m[1], first)})", sql)
        number += count if conditional else 0
    sets = bool(settings) and "/*settings*/" in sql
    if sets:
        sql = sql.replace("/*settings*/", _set(settings, number + 1))
    return Rendered(sql, conditional, sets)


def _insert_columns(sql: str, columns: tuple[Column, ...], first: int) -> str:
    names = "".join(f", {quote_identifier(c.name)}" for c in columns)
    values = "".join(f", CAST(${n} AS {c.sql_type})" for n, c in enumerate(columns, first))
    return sql.replace("/*columns*/", names).replace("/*values*/", values)


def _shown(row: str, columns: tuple[Column, ...]) -> str:
    pairs = ", ".join(f"'{c.name}', {row}.{quote_identifier(c.name)}" for c in columns)
    return f", json_build_object({pairs})::text AS columns"


def _set(names: tuple[str, ...], first: int) -> str:
    """Return a join with one row that is there once the settings are made."""
    calls = ", ".join(
        f"set_config('{name}', CAST(${n} AS text), true) AS s{n}"
        for n, name in enumerate(names, first)
    )
    made = " AND ".join(f"made.s{n} IS NOT NULL" for n, _ in enumerate(names, first))
    return f"JOIN (SELECT {calls}) made ON {made}"

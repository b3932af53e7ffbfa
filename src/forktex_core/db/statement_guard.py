# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Finding what in a statement no scope filter can be added to.

`with_loader_criteria` filters the *entities* of an ORM statement, wherever they stand. It does not
see the bare `Table` behind a model, nor text. This module looks a statement through for those
that name a scoped table, so that the session can refuse it.
"""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Delete, Executable, Select, Table, TableClause, TextClause, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert, UpdateBase
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromClause, Join, SelectBase
from sqlalchemy.sql.visitors import ExternallyTraversible

from forktex_core.db.scope import OrgScopedMixin, scoped_table_names, scoped_tables

_WORD = re.compile(r"\w+")


def bare_use(statement: Executable) -> str | None:
    """The scoped model that `statement` names other than as an ORM entity, if there is one."""
    for element in _parts(statement):
        if isinstance(statement, Insert) and _is_excluded(element):
            continue
        found = _bare(element)
        if isinstance(element, Update | Delete):
            found = found or _second_source(element)
        if isinstance(element, UpdateBase) and element is not statement:
            found = _scoped_model(element.table)  # in a CTE, where the filter does not reach
        if found:
            return found
    return None


def any_use(statement: Executable) -> str | None:
    """The scoped model that a statement which is none of the ORM's names in any way."""
    for element in _parts(statement):
        found = _bare(element) or _scoped_model(element)
        if found:
            return found
    return None


def nested_use(statement: Insert) -> str | None:
    """The scoped model that a SELECT inside an INSERT reads: the filter does not reach there."""
    for element in _parts(statement):
        if isinstance(element, Select):
            found = any_use(element)
            if found:
                return found
    return None


def _parts(statement: Executable) -> Iterator[Any]:
    assert isinstance(statement, ExternallyTraversible)
    for element in visitors.iterate(statement):
        yield element
        for part, _ in (*getattr(element, "_prefixes", ()), *getattr(element, "_suffixes", ())):
            yield part


def _is_excluded(element: Any) -> bool:
    """Whether it is the row that an upsert proposes, which is the statement's own."""
    source = element.table if isinstance(element, Column) else element
    return isinstance(source, AliasedReturnsRows) and source.name == "excluded"


def _second_source(statement: Update | Delete) -> str | None:
    """The scoped model in an UPDATE ... FROM or DELETE ... USING: the filter does not reach it."""
    own: Any = statement.table
    stack: list[Any] = list(statement.get_children())
    while stack:
        element = stack.pop()
        if isinstance(element, SelectBase | FromClause):
            continue  # a SELECT carries its own filter
        if isinstance(element, Column) and element.table.name != own.name:
            found = _scoped_model(element)
            if found:
                return found
        stack.extend(element.get_children())
    return None


def _bare(element: Any) -> str | None:
    if isinstance(element, Column):
        return None if _is_entity(element) else _scoped_model(element)
    if isinstance(element, Select):
        sources = (*element._raw_columns, *element._from_obj, *_joined(element))  # noqa: SLF001
        return next(filter(None, map(_bare_source, sources)), None)
    if isinstance(element, TextClause):
        return _named_in(element.text)
    if isinstance(element, ColumnClause) and element.is_literal:
        return _named_in(element.name)
    if isinstance(element, TableClause) and not isinstance(element, Table):
        return scoped_table_names.get(element.name.lower())
    return None


def _joined(select: Select[Any]) -> list[Any]:
    return [join[0] for join in select._setup_joins]  # noqa: SLF001 - there is no public way


def _bare_source(source: Any) -> str | None:
    if isinstance(source, Join) and "parentmapper" not in source._annotations:  # noqa: SLF001
        return _scoped_source(source)  # written out, by orm.join() too: the filter reaches a part
    if not isinstance(source, FromClause) or _is_entity(source):
        return None
    return _scoped_source(source)


def _scoped_source(source: Any) -> str | None:
    """The scoped model that stands anywhere in a join, or is the source itself."""
    if isinstance(source, Join):
        return _scoped_source(source.left) or _scoped_source(source.right)
    return _scoped_model(source)


def _scoped_model(element: Any) -> str | None:
    """The model behind a table, an alias of one, or a column of either."""
    mapper = element._annotations.get("parentmapper")  # noqa: SLF001 - there is no public way
    if mapper is not None and not issubclass(mapper.class_, OrgScopedMixin):
        return None  # another model, whose table has the same name in another database
    if isinstance(element, Column):
        element = element.table
    while isinstance(element, AliasedReturnsRows):
        element = element.element
    return scoped_tables.get(element.fullname) if isinstance(element, Table) else None


def _is_entity(element: Any) -> bool:
    annotations = element._annotations  # noqa: SLF001 - what marks an entity's columns and tables
    return "parententity" in annotations or "parentmapper" in annotations


def _named_in(text: str) -> str | None:
    """By word, so it cannot be tricked by quoting or comments; views and functions escape it."""
    words = map(str.lower, _WORD.findall(text))
    return next((scoped_table_names[word] for word in words if word in scoped_table_names), None)

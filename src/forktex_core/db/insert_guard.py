# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keeping INSERT and UPDATE statements from naming another organisation than the one in scope."""

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from sqlalchemy import ClauseElement, and_
from sqlalchemy.dialects.postgresql.dml import OnConflictDoUpdate
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import BindParameter

from forktex_core.db.errors import CrossOrgError, UnscopedStatementError

# The parts of a statement that hold its values have no public names; the tests run on the lowest
# and the newest SQLAlchemy that the metadata allows.
type Values = Mapping[Any, Any]


def guarded_insert(statement: Insert, parameters: Any, mapper: Mapper[Any], org: Any) -> Insert:
    """The statement, changing only rows of `org` on conflict; refused if it inserts others."""
    if "org_id" in map(_key, statement._select_names or ()):  # noqa: SLF001
        raise UnscopedStatementError(
            f"INSERT INTO {mapper.class_.__name__} ... SELECT may not select the org_id; leave it "
            "out of the names, and it is the one in scope"
        )
    _refuse_foreign(_inserted(statement, parameters), mapper, org)
    conflict = statement._post_values_clause  # noqa: SLF001
    if not isinstance(conflict, OnConflictDoUpdate):
        return statement
    _refuse_foreign([dict(conflict.update_values_to_set)], mapper, org)
    restricted = copy(conflict)
    own = mapper.columns["org_id"] == org
    existing = conflict.update_whereclause
    restricted.update_whereclause = own if existing is None else and_(existing, own)
    guarded = copy(statement)
    guarded._post_values_clause = restricted  # noqa: SLF001
    return guarded


def guard_update(statement: Update, parameters: Any, mapper: Mapper[Any], org: Any) -> None:
    """Refuse a bulk UPDATE by primary key, and one that moves rows to another organisation."""
    name = mapper.class_.__name__
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UnscopedStatementError(
            f"an UPDATE of many {name} rows by primary key has no place for the scope's filter; "
            f"use update({name}).where(...), or change the loaded objects"
        )
    _refuse_foreign([statement._values or {}, parameters or {}], mapper, org)  # noqa: SLF001


def _inserted(statement: Insert, parameters: Any) -> Iterator[Values]:
    yield statement._values or {}  # noqa: SLF001
    for rows in statement._multi_values:  # noqa: SLF001
        yield from map(dict, rows)
    if isinstance(parameters, Mapping):
        yield parameters
    else:
        yield from parameters or ()


def _refuse_foreign(rows: Iterable[Values], mapper: Mapper[Any], org: Any) -> None:
    for row in rows:
        for key, given in row.items():
            if _key(key) != "org_id":
                continue
            value = given.effective_value if isinstance(given, BindParameter) else given
            if isinstance(value, ClauseElement) or value != org:
                raise CrossOrgError(
                    f"a {mapper.class_.__name__} was given the org_id {value} in the scope of the "
                    f"organisation {org}; leave org_id out, or enter the other's org_scope"
                )


def _key(name: Any) -> str:
    return str(getattr(name, "key", name))

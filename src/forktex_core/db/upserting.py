# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""INSERT ... ON CONFLICT DO UPDATE of one row of a model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, UniqueConstraint, inspect, null
from sqlalchemy.dialects.postgresql import insert

from forktex_core.db.errors import InvalidValueError
from forktex_core.db.fields import field
from forktex_core.db.soft_delete import SoftDeleteMixin


def upsert_statement(model: type[Any], on: Sequence[str], values: Mapping[str, Any]) -> Any:
    """The statement; it returns the row as an object, or nothing if it may not be changed."""
    columns = {name: _column(model, name) for name in [*on, *values]}
    for name in on:
        if name not in values:
            raise InvalidValueError(f"upsert of {model.__name__} on {name!r} needs its value")
    target = {columns[name] for name in on}
    condition = _unique_condition(model, target)
    version = inspect(model).version_id_col
    inserted = {columns[name].name: value for name, value in values.items()}
    if version is not None:
        inserted.setdefault(version.name, 1)
    statement = insert(model.__table__).values(inserted)
    changes = _on_update(model) | {
        columns[name].name: statement.excluded[columns[name].name]
        for name in values
        if name not in on
    }
    if version is not None:
        changes[version.name] = version + 1
    if not changes:  # DO NOTHING would return no row
        changes = {each.name: statement.excluded[each.name] for each in target}
    statement = insert(model).values(inserted)
    return statement.on_conflict_do_update(
        index_elements=list(target), index_where=condition, set_=changes
    ).returning(model)


def _column(model: type[Any], name: str) -> Column[Any]:
    column: Column[Any] = field(model, name).property.columns[0]
    return column


def _on_update(model: type[Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for column in model.__table__.c:
        given = column.onupdate
        if given is not None:
            changes[column.name] = given.arg(None) if given.is_callable else given.arg
    if issubclass(model, SoftDeleteMixin):
        changes["deleted_at"] = null()
    return changes


def _unique_condition(model: type[Any], target: set[Column[Any]]) -> Any:
    """The WHERE of the unique index on `target`; `InvalidValueError` if nothing is unique there."""
    sets = list(_unique_sets(model))
    for columns, condition in sets:
        if columns == target:
            return condition
    known = "; ".join(sorted(", ".join(sorted(c.key for c in columns)) for columns, _ in sets))
    raise InvalidValueError(
        f"nothing makes {', '.join(sorted(c.key for c in target))} of {model.__name__} unique, so "
        f"upsert cannot find the row by it; unique are: {known}"
    )


def _unique_sets(model: type[Any]) -> Iterator[tuple[set[Any], Any]]:
    table = model.__table__
    yield set(table.primary_key.columns), None
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield set(constraint.columns), None
    for index in table.indexes:
        if index.unique:
            yield set(index.columns), index.dialect_options["postgresql"]["where"]

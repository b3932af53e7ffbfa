# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The rows after a given one, in any sort.

A row comes after another when its first differing key does (Markus Winand, "no offset", for keys
that are never null). With `v` the known row's value and nulls as the greatest value, a key alone is

    ascending,  v not null:  key > v, or key is null
    ascending,  v null:      nothing comes after
    descending, v not null:  key < v
    descending, v null:      every key that is not null

and keys together are `beyond(first) or (same(first) and (beyond(second) or ...))`. Where all keys
go one way and none can be null, that is the comparison of two rows, which an index answers.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, false, literal, or_, tuple_

from forktex_core.db.sorting import SortKey


def rows_after(keys: Sequence[SortKey], values: Sequence[Any]) -> ColumnElement[bool]:
    """The condition for rows that come after the row with `values` in the order of `keys`."""
    if len({key.descending for key in keys}) == 1 and not any(key.nullable for key in keys):
        return _row_comparison(keys, values)
    condition: ColumnElement[bool] = false()
    for key, value in reversed(list(zip(keys, values, strict=True))):
        condition = or_(_beyond(key, value), and_(_same(key, value), condition))
    return condition


def _row_comparison(keys: Sequence[SortKey], values: Sequence[Any]) -> ColumnElement[bool]:
    ours = tuple_(*[key.attribute for key in keys])
    known = tuple_(
        *[literal(value, key.attribute.type) for key, value in zip(keys, values, strict=True)]
    )
    after: ColumnElement[bool] = ours < known if keys[0].descending else ours > known
    return after


def _beyond(key: SortKey, value: Any) -> ColumnElement[bool]:
    field = key.attribute
    if value is None:
        return field.is_not(None) if key.descending else false()
    known = literal(value, field.type)
    further: ColumnElement[bool] = field < known if key.descending else field > known
    return or_(further, field.is_(None)) if key.nullable and not key.descending else further


def _same(key: SortKey, value: Any) -> ColumnElement[bool]:
    return (
        key.attribute.is_(None)
        if value is None
        else key.attribute == literal(value, key.attribute.type)
    )

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Filters written as keywords: `age__gte=18`, `name__ilike="a%"`, `id__in=[...]`.

They mean what the same comparison means in Python: `ne` and `not_in` match rows whose field is
null, and None stands for null everywhere. (In SQL, `age <> 5` leaves nulls out.)
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, false, literal, or_
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import ARRAY, JSON

from forktex_core.db.errors import InvalidValueError, UnknownOperatorError
from forktex_core.db.fields import check_value, field, field_names, python_type

type _Compare = Callable[[InstrumentedAttribute[Any], Any], ColumnElement[bool]]


def _bound(attribute: InstrumentedAttribute[Any], value: Any) -> Any:
    # SQLAlchemy takes no bare True or False on the right of < and >.
    return literal(value, attribute.type) if isinstance(value, bool) else value


def _in(attribute: InstrumentedAttribute[Any], values: list[Any]) -> ColumnElement[bool]:
    given = [value for value in values if value is not None]
    found = attribute.in_(given) if given else false()
    return found if len(given) == len(values) else or_(found, attribute.is_(None))


def _not_in(attribute: InstrumentedAttribute[Any], values: list[Any]) -> ColumnElement[bool]:
    given = [value for value in values if value is not None]
    apart = attribute.not_in(given)
    return (
        or_(apart, attribute.is_(None))
        if len(given) == len(values)
        else apart_from_null(attribute, apart)
    )


def apart_from_null(
    attribute: InstrumentedAttribute[Any], condition: ColumnElement[bool]
) -> ColumnElement[bool]:
    """`condition` for rows whose attribute is not null."""
    return condition & attribute.is_not(None)


_ON_VALUE: dict[str, _Compare] = {
    "eq": lambda field, value: field == value,
    "ne": lambda field, value: field.is_distinct_from(value),
    "lt": lambda field, value: field < _bound(field, value),
    "lte": lambda field, value: field <= _bound(field, value),
    "gt": lambda field, value: field > _bound(field, value),
    "gte": lambda field, value: field >= _bound(field, value),
}
_ON_VALUES: dict[str, _Compare] = {
    "in": _in,
    "not_in": _not_in,
    "between": lambda field, bounds: field.between(*bounds),
}
_ON_TEXT: dict[str, _Compare] = {
    "like": lambda field, pattern: field.like(pattern),
    "ilike": lambda field, pattern: field.ilike(pattern),
    "startswith": lambda field, text: field.startswith(text, autoescape=True),
    "istartswith": lambda field, text: field.istartswith(text, autoescape=True),
    "endswith": lambda field, text: field.endswith(text, autoescape=True),
    "iendswith": lambda field, text: field.iendswith(text, autoescape=True),
    "icontains": lambda field, text: field.icontains(text, autoescape=True),
}
_OTHERS: dict[str, _Compare] = {
    "contains": lambda field, part: (
        field.contains(part)
        if isinstance(field.type, (ARRAY, JSON))
        else field.contains(part, autoescape=True)
    ),
    "is_null": lambda field, wanted: field.is_(None) if wanted else field.is_not(None),
}
OPERATORS = {**_ON_VALUE, **_ON_VALUES, **_ON_TEXT, **_OTHERS}


def compile_filters(model: type[Any], filters: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """The conditions that the keywords stand for, to be joined by AND.

    Raises `UnknownFieldError`, `UnknownOperatorError` (both name the near ones) and
    `InvalidValueError`.
    """
    return [_condition(model, key, value) for key, value in filters.items()]


def _condition(model: type[Any], key: str, value: Any) -> ColumnElement[bool]:
    name, operator = _split(model, key)
    attribute = field(model, name)
    if operator not in OPERATORS:
        raise UnknownOperatorError(model.__name__, name, operator, OPERATORS)
    return OPERATORS[operator](attribute, _checked(model, attribute, operator, value))


def _split(model: type[Any], key: str) -> tuple[str, str]:
    if "__" not in key or key in field_names(model):
        return key, "eq"
    name, _, operator = key.rpartition("__")
    return name, operator


def _checked(
    model: type[Any], attribute: InstrumentedAttribute[Any], operator: str, value: Any
) -> Any:
    what = f"{model.__name__}.{attribute.key}__{operator}"
    if operator in _ON_VALUES:
        return _checked_values(model, attribute, operator, value, what)
    if operator in _ON_VALUE:
        if value is None and operator not in {"eq", "ne"}:
            raise InvalidValueError(f"{what} is given None; nothing is less or greater than null")
        if value is not None:
            check_value(model, attribute, value)
    elif operator in _ON_TEXT or _on_text(attribute, operator):
        if python_type(attribute.type) not in {str, None}:
            raise InvalidValueError(f"{what}: {attribute.key} is no text; compare it by eq or lt")
        if not isinstance(value, str):
            raise InvalidValueError(f"{what} takes a str, not {value!r}")
    elif operator == "is_null" and not isinstance(value, bool):
        raise InvalidValueError(f"{what} takes True or False, not {value!r}")
    return value


def _on_text(attribute: InstrumentedAttribute[Any], operator: str) -> bool:
    return operator == "contains" and not isinstance(attribute.type, (ARRAY, JSON))


def _checked_values(
    model: type[Any],
    attribute: InstrumentedAttribute[Any],
    operator: str,
    values: Any,
    what: str,
) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidValueError(f"{what} takes a list of values, not {values!r}")
    # A set has another order in every process; a cursor's fingerprint must not.
    listed = sorted(values, key=repr) if isinstance(values, (set, frozenset)) else list(values)
    if operator == "between" and (len(listed) != len(("lower", "upper")) or None in listed):
        raise InvalidValueError(f"{what} takes a lower and an upper bound, not {values!r}")
    for value in listed:
        if value is not None:
            check_value(model, attribute, value)
    return listed

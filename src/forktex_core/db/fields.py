# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The fields of a model by name, and which Python values they take."""

from decimal import Decimal
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import InstrumentedAttribute, Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from forktex_core.db.errors import InvalidValueError, UnknownFieldError

# Types that PostgreSQL takes a value of beside its own.
_ALSO: dict[type, tuple[type, ...]] = {float: (int, Decimal), Decimal: (int, float)}


def field_names(model: type[Any]) -> list[str]:
    """The names of the model's columns."""
    mapper: Mapper[Any] = inspect(model)
    return list(mapper.column_attrs.keys())


def field(model: type[Any], name: str) -> InstrumentedAttribute[Any]:
    """The model's attribute `name`; `UnknownFieldError` with the near ones if it has none."""
    names = field_names(model)
    if name not in names:
        raise UnknownFieldError(model.__name__, name, names)
    attribute: InstrumentedAttribute[Any] = getattr(model, name)
    return attribute


def check_names(model: type[Any], names: Any) -> None:
    """Raise `UnknownFieldError` for a name that may not be given a value."""
    known = inspect(model).attrs.keys()
    for name in names:
        if name not in known:
            raise UnknownFieldError(model.__name__, name, known)


def python_type(kind: TypeEngine[Any]) -> type | None:
    """The class of the values of a column type; None where that is not known."""
    if isinstance(kind, TypeDecorator):
        return None  # it may take values of any class, and turn them into its column's
    try:
        return kind.python_type
    except NotImplementedError:
        return None


def check_value(model: type[Any], attribute: InstrumentedAttribute[Any], value: Any) -> None:
    """Raise `InvalidValueError` for a value that the attribute's column cannot be compared with."""
    expected = python_type(attribute.type)
    if expected is None or hasattr(value, "__clause_element__"):
        return
    if hasattr(expected, "__members__") and isinstance(value, str):
        return  # an Enum column takes names too
    if not isinstance(value, (expected, *_ALSO.get(expected, ()))):
        raise InvalidValueError(
            f"{model.__name__}.{attribute.key} is compared with {value!r}, "
            f"which is {_article(type(value).__name__)}; it takes {_article(expected.__name__)}"
        )


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiouAEIO" else f"a {name}"

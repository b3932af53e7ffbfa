# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the server says when it refuses a row, in this module's errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm.exc import StaleDataError

from forktex_core.db.errors import (
    CheckError,
    ConstraintError,
    ForeignKeyError,
    InvalidValueError,
    NotNullError,
    StaleVersionError,
    UniqueError,
)

_CONSTRAINTS: dict[str, type[ConstraintError]] = {
    "23502": NotNullError,
    "23503": ForeignKeyError,
    "23505": UniqueError,
    "23514": CheckError,
    "23P01": CheckError,
}

_NO_OPERATOR = "42883"  # the types of a comparison do not go together


def sqlstate(error: StatementError) -> str | None:
    """The server's five-character code behind a SQLAlchemy error, if it came from the server."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


@contextmanager
def translated(model: str) -> Iterator[None]:
    """Raise what the driver raises about rows of `model` as this module's errors."""
    try:
        yield
    except StaleDataError as exc:
        raise StaleVersionError(model) from exc
    except StatementError as exc:
        error = _translated(model, exc)
        if error is None:
            raise
        raise error from exc


def _translated(model: str, error: StatementError) -> Exception | None:
    code, said = sqlstate(error), _said(error)
    if code in _CONSTRAINTS:
        detail = getattr(said, "detail", None) or str(said)
        return _CONSTRAINTS[code](model, getattr(said, "constraint_name", None), detail)
    if code is not None and (code.startswith("22") or code == _NO_OPERATOR):
        return InvalidValueError(f"{model} was given a value that the database refused: {said}")
    if isinstance(said, asyncpg.DataError) or not isinstance(error, DBAPIError):
        return InvalidValueError(f"{model} was given a value of the wrong type: {said}")
    return None


def _said(error: StatementError) -> Any:
    """What asyncpg said: SQLAlchemy wraps it twice."""
    return getattr(error.orig, "__cause__", None) or error.orig

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What `forktex_core.db` raises.

    DBError
    ├── ConfigurationError          init_engine was given something that cannot work
    │   ├── NotInitializedError     a session or engine was asked for before init_engine
    │   └── AlreadyInitializedError init_engine again, with other settings
    ├── UnreachableError            no connection to the server could be opened
    ├── RetriesExhaustedError       every attempt of a transaction was in conflict
    ├── ScopeError
    │   ├── MissingScopeError       a scoped model was touched outside org_scope
    │   ├── CrossOrgError           a row of another organisation was touched
    │   └── UnscopedStatementError  a statement that the scope cannot be added to
    ├── QueryError
    │   ├── UnknownFieldError       no such field on the model
    │   ├── UnknownOperatorError    no such filter operator
    │   ├── InvalidValueError       a value that the field cannot hold
    │   └── CursorError             a page cursor that is damaged or of another query
    ├── NotFoundError               no row where one was asked for
    ├── MultipleFoundError          several rows where one was asked for
    ├── StaleVersionError           the row was changed or removed by someone else
    └── ConstraintError             a constraint of the database refused the row
        ├── UniqueError
        ├── ForeignKeyError
        ├── NotNullError
        └── CheckError

A session handed out by `get_session` is SQLAlchemy's own: what it raises by itself stays
SQLAlchemy's. `Repository`, the scope and the engine's life cycle raise the errors above, with the
driver's error as `__cause__`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DBError(Exception):
    """Root of everything that `forktex_core.db` raises by itself."""


class ConfigurationError(DBError):
    """The engine was asked for in a way that cannot work."""


class NotInitializedError(ConfigurationError):
    """An engine was used before `init_engine`; `name` is the engine's name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        there = ", ".join(map(repr, sorted(known))) or "none"
        given = "" if name == "default" else f", name={name!r}"
        super().__init__(
            f"there is no engine named {name!r} (initialised: {there}); call "
            f"init_engine(url{given}) once when the service starts, before the first get_session()"
        )


class AlreadyInitializedError(ConfigurationError):
    """`init_engine` was called again with other settings; `name` and the `differing` settings."""

    def __init__(self, name: str, differing: Iterable[str]) -> None:
        self.name = name
        self.differing = tuple(differing)
        super().__init__(
            f"the engine {name!r} is already initialised with another "
            f"{' and another '.join(self.differing)}; call `await close_engine({name!r})` first to "
            "replace it, or give the second database a name of its own: init_engine(url, name=...)"
        )


class UnreachableError(DBError):
    """The server could not be reached or refused the connection; `address` has no password."""

    def __init__(self, address: str, reason: BaseException) -> None:
        self.address = address
        said = str(reason) or type(reason).__name__
        super().__init__(
            f"no connection to {address}: {said}; check that the server runs, and the host, port, "
            "database and credentials given to init_engine"
        )


class RetriesExhaustedError(DBError):
    """A transaction was in conflict with others on all of its `attempts`."""

    def __init__(self, attempts: int, reason: BaseException) -> None:
        self.attempts = attempts
        super().__init__(
            f"the transaction was in conflict with others on all {attempts} attempts (last: "
            f"{reason}); raise attempts=, shorten the transaction, or lock its rows in one order"
        )


class ScopeError(DBError):
    """Root of the refusals of the organisation scope."""


class MissingScopeError(ScopeError):
    """A scoped model was touched with no organisation in scope."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to an organisation and none is in scope; run this inside "
            "`with org_scope(org_id):`, or inside `with unscoped():` if it is meant for all of them"
        )


class CrossOrgError(ScopeError):
    """A row or session of one organisation was used in the scope of another."""


class UnscopedStatementError(ScopeError):
    """A statement that reads or writes scoped rows in a way that no filter can be added to."""


class QueryError(DBError):
    """Root of the errors about what a caller asked a repository for."""


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    return "known: " + ", ".join(names)


class UnknownFieldError(QueryError):
    """A filter, sort or value names a field that the model does not have."""

    def __init__(self, model: str, field: str, known: Iterable[str]) -> None:
        self.model, self.field = model, field
        super().__init__(f"{model} has no field {field!r}; {_nearest(field, known)}")


class UnknownOperatorError(QueryError):
    """A filter names an operator that does not exist."""

    def __init__(self, model: str, field: str, operator: str, known: Iterable[str]) -> None:
        self.model, self.field, self.operator = model, field, operator
        super().__init__(
            f"{operator!r} is no filter operator (in {field}__{operator} of {model}); "
            f"{_nearest(operator, known)}"
        )


class InvalidValueError(QueryError):
    """A value that does not fit its field or parameter."""


class CursorError(QueryError):
    """A page cursor that was damaged, forged, or made for another query."""


class NotFoundError(DBError):
    """No row matched; `model` and what was looked for in `criteria`."""

    def __init__(self, model: str, criteria: str) -> None:
        self.model, self.criteria = model, criteria
        super().__init__(f"there is no {model} with {criteria}")


class MultipleFoundError(DBError):
    """More than one row matched where one was asked for."""

    def __init__(self, model: str, criteria: str) -> None:
        self.model, self.criteria = model, criteria
        super().__init__(
            f"more than one {model} matches {criteria}; use list(), or filter by a unique field"
        )


class StaleVersionError(DBError):
    """The row was changed or removed since it was read."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(
            f"the {model} was changed or removed by someone else since it was read; "
            "read it again in a new session and repeat the change"
        )


class ConstraintError(DBError):
    """A constraint refused the row: `constraint` names it, `detail` is the server's explanation."""

    def __init__(self, model: str, constraint: str | None, detail: str) -> None:
        self.model, self.constraint, self.detail = model, constraint, detail
        named = f" ({constraint})" if constraint else ""
        super().__init__(f"{model} was refused by the database{named}: {detail}")


class UniqueError(ConstraintError):
    """Another row holds the same unique values."""


class ForeignKeyError(ConstraintError):
    """A row that is referred to is missing, or one that refers is still there."""


class NotNullError(ConstraintError):
    """A required value is missing."""


class CheckError(ConstraintError):
    """A CHECK or EXCLUDE constraint does not hold."""

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What `forktex_core.data` raises.

    DataError
    ├── ConfigurationError          the store was made or used in a way that cannot work
    ├── PermissionDeniedError       the service's permission hook said no
    ├── DefinitionError             a definition that cannot be: `problems` lists them all
    │   ├── LimitError              a limit of the service is reached
    │   └── DefinitionConflictError someone else changed the register in between
    ├── UnknownRegisterError        the tenant has no such register
    ├── RowError
    │   ├── InvalidRowError         values that the fields cannot hold: `problems` lists them all
    │   ├── RowNotFoundError        no such row in this register
    │   ├── RevisionConflictError   the row was changed since it was read: `current` is it
    │   ├── DuplicateError          another row holds the same unique values
    │   └── RestrictedError         rows refer to one that was to be deleted
    └── QueryError                  a query that cannot be answered: `path` says where in it
        ├── UnknownFieldError       no such field
        ├── InvalidValueError       a value or operator that the field cannot be compared with
        ├── CursorError             a cursor that is damaged, or of another query or tenant
        ├── QueryLimitError         a query larger or slower than the service allows
        └── ScanRefusedError        no index answers the query, and the policy refuses a scan

A `Problem` has a `path` (field, or place in a definition), a `code` for programs and a `message`
for people.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (`path`), which sort (`code`), and what to do (`message`)."""

    path: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class DataError(Exception):
    """Root of everything that `forktex_core.data` raises by itself."""


class ConfigurationError(DataError):
    """The store was made or used in a way that cannot work."""


class PermissionDeniedError(DataError):
    """The permission hook refused `action` on the register `register`."""

    def __init__(self, action: str, register: str) -> None:
        self.action, self.register = action, register
        super().__init__(f"{action} of the register {register!r} is not permitted")


class DefinitionError(DataError):
    """A definition that cannot be; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, problems)))


class LimitError(DefinitionError):
    """A limit that the service sets is reached."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__([Problem(path, "limit", message)])


class DefinitionConflictError(DefinitionError):
    """The register was changed by someone else since its definition was read."""

    def __init__(self, register: str) -> None:
        super().__init__(
            [
                Problem(
                    register,
                    "conflict",
                    f"the register {register!r} was changed by someone else meanwhile; load it "
                    "again and repeat the change",
                )
            ]
        )


class UnknownRegisterError(DataError):
    """The tenant has no register of this name; others' registers look the same."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no register {name!r}; make it by Register.create(...)")


class RowError(DataError):
    """Root of the errors about rows."""


class InvalidRowError(RowError):
    """Values that the fields cannot hold; `problems` lists them all."""

    def __init__(self, register: str, problems: Sequence[Problem]) -> None:
        self.register, self.problems = register, tuple(problems)
        shown = "; ".join(map(str, problems[:20]))
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        super().__init__(f"the row does not fit the register {register!r}: {shown}{more}")


class RowNotFoundError(RowError):
    """No row `id` in the register (rows of other registers and tenants look the same)."""

    def __init__(self, register: str, id: UUID | str) -> None:
        self.register, self.id = register, id
        super().__init__(f"there is no row {id} in the register {register!r}")


class RevisionConflictError(RowError):
    """The row was changed since it was read: `current` is what it is now."""

    def __init__(self, register: str, current: Any, expected: int) -> None:
        self.register, self.current, self.expected = register, current, expected
        super().__init__(
            f"the row {current.id} of {register!r} has revision {current.revision}, not "
            f"{expected}: someone else changed it; merge with .current and try again"
        )


class DuplicateError(RowError):
    """Another row holds the same values in the unique `fields`."""

    def __init__(self, register: str, fields: Sequence[str]) -> None:
        self.register, self.fields = register, tuple(fields)
        super().__init__(
            f"another row of {register!r} has the same {' and '.join(self.fields)}, which must be "
            "unique"
        )


class RestrictedError(RowError):
    """Rows of `register` refer by `field` to a row that was to be deleted."""

    def __init__(self, register: str, field: str, count: int) -> None:
        self.register, self.field, self.count = register, field, count
        super().__init__(
            f"{count} rows of {register!r} refer to it by {field!r}; delete or change them first, "
            "or give the relationship the rule set_null or cascade"
        )


class QueryError(DataError):
    """A query that cannot be answered; `path` says which part of it."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


class UnknownFieldError(QueryError):
    """The register has no such field."""

    def __init__(self, path: str, register: str, field: str, known: Iterable[str]) -> None:
        self.register, self.field = register, field
        super().__init__(path, f"{register!r} has no field {field!r}; {nearest(field, known)}")


class InvalidValueError(QueryError):
    """A value or an operator that the field cannot be compared with."""


class CursorError(QueryError):
    """A cursor that is damaged, or belongs to another query, register or tenant."""

    def __init__(self, message: str) -> None:
        super().__init__("cursor", message)


class QueryLimitError(QueryError):
    """A query that is larger, deeper or slower than the service allows."""


class ScanRefusedError(QueryError):
    """No index answers the query and the service refuses scans; `plan` says what is missing."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        super().__init__(
            "",
            f"the query would read about {plan.rows} rows without an index; index "
            f"{', '.join(plan.missing) or 'a field of it'} (await query.index_missing()), or allow "
            "scans",
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    return "known: " + (", ".join(names[:20]) or "none")

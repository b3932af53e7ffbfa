# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which runs a query is about: pure, immutable, checked when it is made.

Workflows, versions, statuses, queues and keys are sets, which a further ``where`` narrows. Every
other condition is added to those before it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict, cast
from uuid import UUID

from forktex_core.flow.errors import QueryError
from forktex_core.flow.transitions import LEGAL, Status
from forktex_core.flow.workflow import Workflow

type Several[T] = T | Iterable[T]

STATUSES: tuple[str, ...] = tuple(LEGAL)
# Statuses in which a run may have an error.
WITH_ERROR = frozenset({"failed", "cancelled", "paused"})
_SETS = ("workflow", "version", "status", "queue", "key")
_TIMES = tuple(
    f"{what}_{end}" for what in ("created", "started", "finished") for end in ("since", "until")
)
_TEXTS = ("error_contains", "schedule", "idempotency_key")
_KNOWN = (*_SETS, *_TIMES, *_TEXTS, "metadata", "parent", "roots", "columns", "worker")


class RunConditions(TypedDict, total=False):
    """What where() takes; see Runs.where()."""

    workflow: Several[str | Workflow[Any, Any]]
    version: Several[int]
    status: Several[Status]
    queue: Several[str]
    key: Several[str]
    metadata: Mapping[str, Any]
    columns: Mapping[str, Any]
    parent: UUID | str
    roots: bool
    schedule: str
    idempotency_key: str
    worker: int
    error_contains: str
    created_since: datetime
    created_until: datetime
    started_since: datetime
    started_until: datetime
    finished_since: datetime
    finished_until: datetime


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Sets are None where anything goes. ``rest`` holds (name, value) of all other conditions."""

    workflow: frozenset[str] | None = None
    version: frozenset[int] | None = None
    status: frozenset[str] | None = None
    queue: frozenset[str] | None = None
    key: frozenset[str] | None = None
    rest: tuple[tuple[str, Any], ...] = ()

    def narrowed(self, conditions: Mapping[str, Any]) -> "RunFilter":
        """Return the filter with more conditions; raise QueryError for one that can't be."""
        found = self
        for name, value in conditions.items():
            if name not in _KNOWN:
                raise QueryError(
                    f"there is no condition {name!r} on runs: there are {', '.join(_KNOWN)}"
                )
            if name in _SETS:
                found = found.with_set(name, _set(name, value))
            else:
                found = replace(found, rest=(*found.rest, *_rest(name, value)))
                if name == "error_contains":
                    found = found.with_set("status", WITH_ERROR)
        return found

    def with_set(self, name: str, values: frozenset[Any]) -> "RunFilter":
        """Return the filter with what a set and ``values`` have in common."""
        known: frozenset[Any] | None = getattr(self, name)
        changes: dict[str, Any] = {name: values if known is None else known & values}
        return replace(self, **changes)

    @property
    def empty(self) -> bool:
        """Whether no run can fit: narrowing left nothing of a set."""
        return any(getattr(self, name) == frozenset() for name in _SETS)

    @property
    def text(self) -> str:
        """Return the same text for the same filter, whatever the order of its making."""
        sets = [sorted(getattr(self, name) or ()) for name in _SETS]
        return repr((sets, sorted((name, str(value)) for name, value in self.rest)))


ALL = RunFilter()


def _set(name: str, value: Any) -> frozenset[Any]:
    kind = int if name == "version" else str
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    values = [_plain(v) for v in (value if several else (value,))]
    if not values:
        raise QueryError(f"{name}: an empty list fits no run; leave {name} out to take them all")
    for one in values:
        if not isinstance(one, kind) or isinstance(one, bool):
            raise QueryError(f"{name} is {kind.__name__}, or several of them, not {one!r}")
        if name == "status" and one not in STATUSES:
            raise QueryError(f"there is no status {one!r}: there are {', '.join(STATUSES)}")
        _check_text(name, one)
    return frozenset(values)


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Workflow) else value


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise QueryError(f"{name}: Postgres has no text with NUL or surrogates: {value!r}")


def _rest(name: str, value: Any) -> list[tuple[str, Any]]:
    if name in _TIMES:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise QueryError(
                f"{name} is a datetime with a time zone, not {value!r}: datetime(..., tzinfo=UTC)"
            )
        return [(name, value)]
    if name in _TEXTS:
        if not isinstance(value, str) or not value:
            raise QueryError(f"{name} is a text, not {value!r}")
        _check_text(name, value)
        return [(name, value)]
    return _OTHERS[name](value)


def _metadata(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise QueryError(f"metadata is a dict that runs' metadata must contain, not {value!r}")
    try:
        text = json.dumps(dict(value), sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise QueryError(f"metadata: {error}; it takes what JSON has") from error
    _check_text("metadata", text)
    if "\\u0000" in text:
        raise QueryError("metadata: Postgres has no text with NUL")
    return [("metadata", text)] if value else []


def _parent(value: Any) -> list[tuple[str, Any]]:
    return [("parent", as_query_id(value, "parent"))]


def _roots(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, bool):
        raise QueryError(f"roots is true or false, not {value!r}")
    return [("roots", True)] if value else []


def _worker(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 63:
        raise QueryError(f"worker is the number of a worker, not {value!r}")
    return [("worker", value)]


def _columns(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise QueryError(f"columns is a dict of column names and values, not {value!r}")
    for name in value:
        if not isinstance(name, str) or not name.isidentifier() or len(name) > 63:
            raise QueryError(f"columns: {name!r} is no name of a column")
    return [("columns", pair) for pair in cast("Mapping[str, Any]", value).items()]


_OTHERS = {
    "metadata": _metadata,
    "parent": _parent,
    "roots": _roots,
    "worker": _worker,
    "columns": _columns,
}


def as_query_id(value: Any, what: str) -> UUID:
    """Return a run's id; raise QueryError when it isn't one."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise QueryError(f"{what} is the id of a run (a UUID), not {value!r}") from error

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a service may add to every run: columns of its own, a say in who may do what, and a part in
each change of status.

An extension is any object that has at least one of the hooks of FlowExtension; those that it lacks
do nothing. Extensions are asked in the order in which the Flow was given them.
"""

import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from forktex_core.flow.errors import DefinitionError

type Action = Literal[
    "start", "read", "list", "signal", "cancel", "pause", "resume", "retry", "rewind", "fork",
    "queue.read", "queue.change", "schedule.read", "schedule.change", "schedule.trigger",
    "definition.read", "definition.change", "definition.migrate",
    "retention.read", "retention.change", "fleet.read",
]  # fmt: skip

_TYPES: dict[type, str] = {
    str: "text", UUID: "uuid", int: "bigint", bool: "boolean", float: "double precision",
    datetime: "timestamp with time zone",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset(
    "id workflow version lane queue priority status due_at worker_id claim signal_seq input output "
    "error waiting_for metadata idempotency_key parent_id parent_key parent_close generation key "
    "limited deduplication_key schedule origin started_by timeout due_when_resumed created_at "
    "started_at claimed_at deadline_at finished_at name plan overlap catch_up jitter paused "
    "next_at last_at last_run skipped revision".split()
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column that an extension adds to every run, and to every schedule for the runs it starts.

    Args:
        name: lower case letters, digits and ``_``, 40 at most.
        type: the Python type of its values: str, UUID, int, bool, float or datetime.
        index: whether runs are looked up by it.
        default: what runs have that were there before, and those that nobody gives another value.
            None: NULL.
        isolates: runs that differ in it can't send each other signals, not from their bodies
            either.

    Raises:
        DefinitionError: the name or the type can't be, or the default is not of that type.
    """

    name: str
    type: type = str
    index: bool = True
    default: Any = None
    isolates: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise DefinitionError(
                f"column {self.name!r:.80}: it must be 1 to 40 lower case letters, digits or '_', "
                "begin with a letter, and be no column of flow's own"
            )
        if self.type not in _TYPES:
            known = ", ".join(t.__name__ for t in _TYPES)
            raise DefinitionError(f"column {self.name!r}: its type must be one of {known}")
        self.check(self.default)

    @property
    def sql_type(self) -> str:
        """The type in Postgres."""
        return _TYPES[self.type]

    def check(self, value: Any) -> Any:
        """Return a value fit for the column; raise DefinitionError when it isn't."""
        fits = value is None or type(value) is self.type
        if isinstance(value, UUID) and self.type is UUID:  # asyncpg has a subclass of its own
            return UUID(bytes=value.bytes)
        if not fits or (isinstance(value, str) and "\0" in value):
            raise DefinitionError(
                f"column {self.name!r} takes {self.type.__name__} or None, not {value!r:.80}"
            )
        return value

    def load(self, value: Any) -> Any:
        """Return the value that JSON carried."""
        if value is None:
            return None
        if self.type is UUID:
            return UUID(value)
        return datetime.fromisoformat(value) if self.type is datetime else value


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in SQL that holds for the rows that a principal may see.

    Args:
        sql: an expression over ``{row}.column``, with its parameters as ``$1``, ``$2``, … It is
            asked of runs and of schedules: it may use the extensions' columns, and workflow,
            version, queue, priority and metadata.
        parameters: the parameters' values. Never write values into the text itself.
        indexed: it says what an indexed column is equal to: lists begin there.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    indexed: bool = False

    def at(self, row: str, first: int = 1) -> str:
        """Return the SQL for rows called ``row``, its parameters numbered from ``first``."""
        text = self.sql.replace("{row}", row)
        return re.sub(r"\$(\d+)", lambda n: f"${int(n[1]) + first - 1}", text)


@dataclass(slots=True, kw_only=True)
class RunDraft:
    """A run (or a schedule of runs) that is about to be started. ``on_start`` puts values into
    ``columns``, and may change ``metadata``.
    """

    principal: Any
    workflow: str
    version: int
    queue: str
    priority: int
    metadata: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as authorization sees it.

    Args:
        id: None while the run is about to be started.
        status: None while the run is about to be started.
        columns: the values of the extensions' columns.
    """

    id: UUID | None
    workflow: str
    version: int
    queue: str
    status: str | None
    metadata: Mapping[str, Any]
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a run's status.

    Args:
        old: the status before; None for a run that is new.
        new: the status from then on.
        at: when, by the database's clock.
        columns: the values of the extensions' columns.
    """

    run_id: UUID
    workflow: str
    version: int
    queue: str
    old: str | None
    new: str
    at: datetime
    columns: Mapping[str, Any]


class TransitionConnection(Protocol):
    """The connection on which a status changes, within that transaction. Don't commit it."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """Run one statement with parameters ``$1``, ``$2``, …; return its rows, as mappings."""


class FlowExtension(Protocol):
    """What an extension may have. All hooks are optional: an object needs at least one of them.
    Deriving from this class is not needed; it lets a type checker compare the hooks.
    """

    def columns(self) -> Sequence[Column]:
        """Return the columns that runs get; open() adds them to the tables."""
        return ()

    def on_start(self, draft: RunDraft) -> Awaitable[None] | None:
        """Fill the columns of a run that is about to be started from outside.

        Runs that a schedule or a body starts, and forks, take over the columns of what they come
        from, and are not asked about.
        """
        return None

    def authorize(
        self, action: Action, principal: Any, run: RunView | None
    ) -> Awaitable[bool] | bool:
        """Say whether a principal may do something. Anything but True refuses it.

        ``run`` is the run that it is about, or None for what is about none (a list, a queue, a
        schedule, a definition).
        """
        return True

    def visible(self, principal: Any) -> Condition | None:
        """Return which runs and schedules there are for a principal; None: all.

        Every list and count carries the condition, and a run for which it doesn't hold is not
        found.
        """
        return None

    def namespace(self, principal: Any) -> str | None:
        """Return the space that a principal's names live in: idempotency, deduplication and
        fairness keys, schedules' names, and stored graphs. None: the one of the service itself.
        """
        return None

    def settings(self, principal: Any) -> Mapping[str, str]:
        """Return settings of Postgres that hold in each transaction of a principal's calls."""
        return {}

    def on_transition(
        self, change: Change, connection: TransitionConnection
    ) -> Awaitable[None] | None:
        """Take part in a change of status, in its transaction. An error undoes the change."""
        return None

    def after_commit(self, change: Change) -> Awaitable[None] | None:
        """Take note of a change that is committed. At most once: a crash may lose it."""
        return None


class _HasColumns(Protocol):
    def columns(self) -> Sequence[Column]: ...


class _HasStart(Protocol):
    def on_start(self, draft: RunDraft) -> Awaitable[None] | None: ...


class _HasAuthorize(Protocol):
    def authorize(
        self, action: Action, principal: Any, run: RunView | None
    ) -> Awaitable[bool] | bool: ...


class _HasVisible(Protocol):
    def visible(self, principal: Any) -> Condition | None: ...


class _HasTransition(Protocol):
    def on_transition(
        self, change: Change, connection: TransitionConnection
    ) -> Awaitable[None] | None: ...


class _HasCommit(Protocol):
    def after_commit(self, change: Change) -> Awaitable[None] | None: ...


type AnyExtension = (
    FlowExtension
    | _HasColumns
    | _HasStart
    | _HasAuthorize
    | _HasVisible
    | _HasTransition
    | _HasCommit
)
HOOKS = (
    "columns", "on_start", "authorize", "visible", "namespace", "settings", "on_transition",
    "after_commit",
)  # fmt: skip

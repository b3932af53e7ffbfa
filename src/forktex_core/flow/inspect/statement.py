# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a filter to SQL: the one place where queries over runs are made, so that what every listing
has to carry (a tenant's condition) is put in here and can't be forgotten. Pure.

Every value travels as a parameter; the text is made of constants of this file, of quoted names of
columns, and of the condition that an extension gives.

How a listing stays bounded. An index holds runs by (status, queue, workflow) in the order of their
creation. A listing first finds which of these *places* there are (one probe for each, never a
scan), takes the newest run of each, keeps as many places as the page has rows (no others can be on
it), and reads at most a page from each. Runs that are being executed are not in that index: they
are found by their worker. Listings in the order of the end use another index the same way. A filter
with an index of its own (metadata, a parent) is answered from that. Whatever has no index (a
version, a key, a text in the error, when a run began, and a time range of the other order) is
checked row by row along the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from forktex_core.flow.extension import Condition
from forktex_core.flow.inspect.filter import STATUSES, RunFilter
from forktex_core.flow.store.sql import quote_identifier

type Order = Literal["created", "-created", "finished", "-finished"]

ORDERS: tuple[str, ...] = ("-created", "created", "-finished", "finished")
_FINISHED = ("succeeded", "failed", "cancelled")

COLUMNS = """r.id, r.workflow, r.version, r.queue, r.key, r.priority, r.status, r.due_at,
    r.worker_id, r.claim, r.generation, r.waiting_for, r.metadata::text AS metadata,
    r.idempotency_key, r.deduplication_key, r.parent_id, r.schedule, r.origin, r.created_at,
    r.started_at, r.claimed_at, r.deadline_at, r.finished_at, r.paused_at, r.paused_by"""
# A traceback may be long and is not for lists. What a codec made of an error is no object.
_ERROR = """CASE WHEN json_typeof(r.error) = 'object' THEN
    json_build_object('type', r.error->>'type', 'message', left(r.error->>'message', 500))::text
    ELSE r.error::text END AS error"""
_PAYLOADS = "r.input::text AS input, r.output::text AS output, r.error::text AS error"

_REST = {
    "metadata": "r.metadata @> {}::text::jsonb AND r.metadata <> '{{}}'",
    "parent": "r.parent_id = {}::uuid",
    "roots": "{}::boolean AND r.parent_id IS NULL",
    "schedule": "r.schedule = {}::text",
    "idempotency_key": "r.idempotency_key = {}::text",
    "worker": "r.worker_id = {}::bigint",
    "error_contains": "strpos(lower(concat_ws(': ', r.error->>'type', r.error->>'message')),"
    " lower({}::text)) > 0",
    "created_since": "r.created_at >= {}::timestamptz",
    "created_until": "r.created_at < {}::timestamptz",
    "started_since": "r.started_at >= {}::timestamptz",
    "started_until": "r.started_at < {}::timestamptz",
    "finished_since": "r.finished_at IS NOT NULL AND r.finished_at >= {}::timestamptz",
    "finished_until": "r.finished_at IS NOT NULL AND r.finished_at < {}::timestamptz",
}
# Conditions that an index of their own answers, whatever else is asked.
_INDEXED = frozenset({"metadata", "parent", "worker", "columns"})


@dataclass(slots=True)
class Statement:
    """SQL with its parameters, as it is being made."""

    schema: str
    parameters: list[Any] = field(default_factory=list)
    sql: str = ""
    ordered: bool = False
    """Whether it walks indexes in their order, and only a little way."""

    def put(self, value: Any) -> str:
        """Add a parameter; return what stands for it."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def condition(self, condition: Condition) -> str:
        """Return a condition with its parameters numbered among ours."""
        text = condition.at("r", len(self.parameters) + 1)
        self.parameters.extend(condition.parameters)
        return f"({text})"

    @property
    def run(self) -> str:
        """The table of runs, quoted."""
        return f"{quote_identifier(self.schema)}.run"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: which runs, and the conditions that everything carries."""

    filter: RunFilter
    also: tuple[Condition, ...] = ()
    columns: tuple[str, ...] = ()

    def conditions(self, made: Statement, *, sets: Sequence[str]) -> list[str]:
        """Return all conditions save those on sets that the caller puts in by itself."""
        found = [made.condition(condition) for condition in self.also]
        for name in sets:
            if (values := getattr(self.filter, name)) is not None:
                kind = "integer" if name == "version" else "text"
                found.append(f"r.{name} = ANY ({made.put(sorted(values))}::{kind}[])")
        for name, value in self.filter.rest:
            if name == "columns":
                column, wanted = value
                found.append(f"r.{quote_identifier(column)} = {made.put(wanted)}")
            else:
                found.append(_REST[name].format(made.put(value)))
        return found

    @property
    def indexed(self) -> bool:
        """Whether a condition has an index of its own."""
        return any(c.indexed for c in self.also) or any(
            name in _INDEXED for name, _ in self.filter.rest
        )


def one(schema: str, question: Question, run_id: UUID) -> Statement:
    """Return the statement for one run with its payloads."""
    made = Statement(schema)
    conditions = [f"r.id = {made.put(run_id)}", *question.conditions(made, sets=())]
    extra = "".join(f", r.{quote_identifier(c)}" for c in question.columns)
    made.sql = (
        f"SELECT {COLUMNS}{extra}, {_PAYLOADS}, r.lane, r.timeout FROM {made.run} r "
        f"WHERE {' AND '.join(conditions)}"
    )
    return made


def listing(
    schema: str,
    question: Question,
    order: str,
    size: int,
    after: tuple[datetime, UUID] | None = None,
) -> Statement:
    """Return the statement for ``size`` rows in an order, behind a place."""
    made = Statement(schema)
    by = "finished_at" if order.endswith("finished") else "created_at"
    down = order.startswith("-")
    walk = _Walk(made, question, by, down, made.put(size), after)
    made.ordered = not question.indexed
    found = walk.places() if made.ordered else walk.flat()
    extra = "".join(f", r.{quote_identifier(c)}" for c in question.columns)
    made.sql = (
        f"{found} SELECT {COLUMNS}{extra}, {_ERROR}, k.at AS place FROM found k "
        f"JOIN {made.run} r ON r.id = k.id ORDER BY {walk.order('k.at', 'k.id')}"
    )
    return made


@dataclass(slots=True)
class _Walk:
    made: Statement
    question: Question
    by: str
    down: bool
    size: str
    after: tuple[datetime, UUID] | None

    def order(self, at: str, run_id: str) -> str:
        way = "DESC" if self.down else "ASC"
        return f"{at} {way}, {run_id} {way}"

    def keyset(self) -> list[str]:
        """Return the conditions that leave out what earlier pages had. The first one bounds the
        index, the second decides between equal times.
        """
        guard = [f"r.{self.by} IS NOT NULL"] if self.by == "finished_at" else []
        if self.after is None:
            return guard
        at, run_id = self.made.put(self.after[0]), self.made.put(self.after[1])
        sign = "<" if self.down else ">"
        return [*guard, f"r.{self.by} {sign}= {at}", f"(r.{self.by}, r.id) {sign} ({at}, {run_id})"]

    def flat(self) -> str:
        conditions = self.question.conditions(
            self.made, sets=("workflow", "version", "status", "queue", "key")
        )
        return f"WITH {self._found(self._rows([*conditions, *self.keyset()]))}"

    def _rows(self, conditions: Sequence[str], size: str | None = None) -> str:
        return (
            f"SELECT r.id, r.{self.by} AS at FROM {self.made.run} r "
            f"WHERE {' AND '.join(conditions) or 'true'} "
            f"ORDER BY {self.order(f'r.{self.by}', 'r.id')} LIMIT {size or self.size}"
        )

    def _found(self, rows: str) -> str:
        return (
            f"found AS MATERIALIZED (SELECT x.id, x.at FROM ({rows}) x "
            f"ORDER BY {self.order('x.at', 'x.id')} LIMIT {self.size})"
        )

    def places(self) -> str:
        finished = self.by == "finished_at"
        levels = ("workflow", "status", "queue") if finished else ("status", "queue", "workflow")
        guard = "r.finished_at IS NOT NULL" if finished else "r.status <> 'running'"
        steps = _levels(self.made, self.question.filter, levels, guard)
        conditions = [
            guard,
            *(f"r.{level} = p.{level}" for level in levels),
            *self.question.conditions(self.made, sets=("version", "key")),
            *self.keyset(),
        ]
        heads = (
            f"heads AS MATERIALIZED (SELECT p.* FROM {steps[-1][0]} p CROSS JOIN LATERAL "
            f"({self._rows(conditions, '1')}) h WHERE p.{levels[-1]} IS NOT NULL "
            f"ORDER BY {self.order('h.at', 'h.id')} LIMIT {self.size})"
        )
        rows = f"SELECT c.id, c.at FROM heads p CROSS JOIN LATERAL ({self._rows(conditions)}) c"
        if not finished and self._may_run():
            rows += f" UNION ALL ({self._rows(self._running())})"
        texts = [text for _, text in steps]
        return f"WITH RECURSIVE {', '.join([*texts, heads, self._found(rows)])}"

    def _may_run(self) -> bool:
        wanted = self.question.filter.status
        return wanted is None or "running" in wanted

    def _running(self) -> list[str]:
        sets = ("workflow", "version", "queue", "key")
        conditions = self.question.conditions(self.made, sets=sets)
        return [*RUNNING, *conditions, *self.keyset()]


RUNNING = ("r.worker_id IS NOT NULL", "r.status = 'running'")


def _levels(
    made: Statement, filter: RunFilter, levels: Sequence[str], guard: str
) -> list[tuple[str, str]]:
    """Return one named query for each level: the values that there are below each row of the level
    before. A set that the filter gives is taken as it is; other values are found one probe each.
    """
    steps: list[tuple[str, str]] = []
    for depth, level in enumerate(levels):
        before = levels[:depth]
        above = steps[-1][0] if steps else None
        values = _values(filter, level, finished="finished_at" in guard)
        name = f"by_{level}"
        taken = "".join(f"a.{column}, " for column in before)
        source = f" FROM {above} a" if above else ""
        there = f" WHERE a.{before[-1]} IS NOT NULL" if before else ""
        if values is not None:
            joined = f"{source} CROSS JOIN" if above else " FROM"
            text = (
                f"SELECT {taken}v.value AS {level}{joined} unnest({made.put(values)}::text[]) "
                f"AS v(value){there}"
            )
        else:
            same = "".join(f" AND r.{column} = a.{column}" for column in before)
            least = f"SELECT min(r.{level}) FROM {made.run} r WHERE {guard}{same}"
            text = (
                f"SELECT {taken}({least}) AS {level}{source}{there} UNION ALL "
                f"SELECT {taken}({least} AND r.{level} > a.{level}) FROM {name} a "
                f"WHERE a.{level} IS NOT NULL"
            )
        columns = ", ".join((*before, level))
        steps.append((name, f"{name}({columns}) AS ({text})"))
    return steps


def _values(filter: RunFilter, level: str, *, finished: bool) -> list[str] | None:
    wanted: frozenset[str] | None = getattr(filter, level)
    if level == "status":
        there = _FINISHED if finished else tuple(s for s in STATUSES if s != "running")
        return [s for s in there if wanted is None or s in wanted]
    return None if wanted is None else sorted(wanted)


def counting(schema: str, question: Question, at_most: int | None) -> Statement:
    """Return the statement that counts runs, up to a number."""
    made = Statement(schema)
    limit = "" if at_most is None else f" LIMIT {made.put(at_most)}"
    rows = " UNION ALL ".join(f"(SELECT 1{leg}{limit})" for leg in _legs(made, question))
    made.sql = f"SELECT count(*) AS n FROM (SELECT 1 FROM ({rows}) x{limit}) y"
    return made


def summarizing(schema: str, question: Question) -> Statement:
    """Return the statement that counts runs by status, workflow and queue."""
    made = Statement(schema)
    by = "r.status, r.workflow, r.queue"
    rows = " UNION ALL ".join(
        f"SELECT {by}, count(*) AS n{leg} GROUP BY {by}" for leg in _legs(made, question)
    )
    made.sql = f"SELECT status, workflow, queue, n FROM ({rows}) x ORDER BY 1, 2, 3"
    return made


def _legs(made: Statement, question: Question) -> list[str]:
    """Return the FROM and WHERE of what is not executed now, and of what is: each has its index."""
    sets = ("workflow", "version", "status", "queue", "key")
    legs = []
    for first in (("r.status <> 'running'",), RUNNING):
        conditions = [*first, *question.conditions(made, sets=sets)]
        legs.append(f" FROM {made.run} r WHERE {' AND '.join(conditions)}")
    return legs

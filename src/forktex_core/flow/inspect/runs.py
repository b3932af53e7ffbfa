# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``flow.runs``: queries over runs that are put together piece by piece, and looks at one of them.

A query is a value: each method returns a new one, and asking the database is a method of its own.
Pages are cut by keyset: a page costs the same however far behind it lies, and a run that is new
never moves another one to a second page.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Unpack
from uuid import UUID

import asyncpg

from forktex_core.flow.client import Client
from forktex_core.flow.errors import QueryError, RunNotFoundError
from forktex_core.flow.extension import Condition
from forktex_core.flow.gate import guarded
from forktex_core.flow.identity import as_run_id
from forktex_core.flow.inspect import cursor, statement
from forktex_core.flow.inspect.explain import Finding, explain
from forktex_core.flow.inspect.facts import gather
from forktex_core.flow.inspect.filter import ALL, RunConditions, RunFilter
from forktex_core.flow.inspect.rows import (
    Page,
    RunDetail,
    RunInfo,
    Summary,
    plain_id,
    run_detail,
    run_info,
)
from forktex_core.flow.inspect.statement import ORDERS, Order, Question
from forktex_core.flow.inspect.stream import Streams, stream
from forktex_core.flow.inspect.timeline import Event, Timeline, build
from forktex_core.flow.store.inspection import InspectionStore

_LARGEST_PAGE = 1000
_ITERATED = 200
_NAMES = ("idempotency_key", "schedule")


class Reading:
    """Where queries are asked, and what every one of them carries for who asks.

    Args:
        client: an open Flow, or one that acts for a principal.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.schema = client.schema

    @property
    def store(self) -> InspectionStore:
        """The queries of the open Flow."""
        return self.client._open.inspection  # noqa: SLF001 - a part of the Flow

    @property
    def streams(self) -> Streams:
        """What listens for the open Flow."""
        return self.client._open.streams  # noqa: SLF001 - a part of the Flow

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that extensions added to runs."""
        return tuple(column.name for column in self.store.view.columns)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the principal may see."""
        found = self.store.view.condition
        return () if found is None else (found,)

    def named(self, filter: RunFilter) -> RunFilter:
        """Return a filter with the names as the database has them, in the principal's namespace."""
        own = self.client._own  # noqa: SLF001 - a part of the Flow
        key = None if filter.key is None else frozenset(map(own, filter.key))
        rest = tuple((n, own(v) if n in _NAMES else v) for n, v in filter.rest)
        return replace(filter, key=key, rest=rest)

    def shown[R: RunInfo](self, run: R) -> R:
        """Return a run with the names as the principal gave them."""
        shown = self.client._shown  # noqa: SLF001 - a part of the Flow
        found = {n: getattr(run, n) for n in ("key", "deduplication_key", *_NAMES)}
        names: dict[str, Any] = {n: shown(v) for n, v in found.items() if v is not None}
        return replace(run, **names) if names else run


@dataclass(frozen=True, slots=True, repr=False)
class Runs:
    """See the top of the file; ``flow.runs`` is the query for all runs, the newest first."""

    _reading: Reading
    _filter: RunFilter = ALL
    _order: Order = "-created"
    _also: tuple[Condition, ...] = ()

    def __repr__(self) -> str:
        return f"<Runs {self._text}>"

    @property
    def _client(self) -> Client:
        return self._reading.client

    def _on(self, client: Client) -> "Runs":
        return replace(self, _reading=Reading(client))

    # Putting a query together

    def where(self, **conditions: Unpack[RunConditions]) -> "Runs":
        """Return the query with more conditions, all of which have to hold.

        Args:
            workflow, version, status, queue, key: one, or several of which one has to fit. Given
                again, only what both allow remains.
            metadata: what the metadata must contain, as JSON containment: ``{"order": 17}``.
            columns: values of columns that an extension added to runs.
            parent: the run that started them.
            roots: only runs that no other run started.
            schedule, idempotency_key, worker: where they come from, and who executes them.
            error_contains: a part of ``type: message`` of the error, in whatever case.
            created_since, created_until, started_since, started_until, finished_since,
                finished_until: moments with a time zone; ``since`` is included, ``until`` isn't.

        Raises:
            QueryError: a condition is unknown, or of the wrong form.
        """
        return replace(self, _filter=self._filter.narrowed(conditions))

    def order_by(self, order: Order) -> "Runs":
        """Return the query in another order: ``-created`` (the newest first, the default),
        ``created``, ``-finished`` or ``finished`` (only runs that have ended).

        Raises:
            QueryError: there is no such order.
        """
        if order not in ORDERS:
            raise QueryError(f"there is no order {order!r}: there are {', '.join(ORDERS)}")
        return replace(self, _order=order)

    def restricted(self, condition: Condition) -> "Runs":
        """Return the query for those runs only that a condition lets through; everything that is
        asked of it, and of single runs, carries the condition.
        """
        return replace(self, _also=(*self._also, condition))

    # Asking for many

    @guarded("list")
    async def page(self, size: int = 50, *, after: str | None = None) -> Page:
        """Return up to ``size`` runs (1 to 1000), behind the page that gave the cursor ``after``.

        Raises:
            QueryError: the size is out of range, or the cursor malformed or of another query.
        """
        if type(size) is not int or not 1 <= size <= _LARGEST_PAGE:
            raise QueryError(f"a page has 1 to {_LARGEST_PAGE} runs, not {size!r}")
        place = None if after is None else cursor.decode(self._text, after)
        if self._filter.empty:
            return Page([], None)
        made = statement.listing(self._schema, self._question, self._order, size + 1, place)
        rows = await self._ask(made)
        onwards = None
        if len(rows) > size:
            last = rows[size - 1]
            onwards = cursor.encode(self._text, last["place"], plain_id(last["id"]))
        return Page([self._shown(row) for row in rows[:size]], onwards)

    async def __aiter__(self) -> AsyncIterator[RunInfo]:
        after = None
        while True:
            page = await self.page(_ITERATED, after=after)
            for run in page.runs:
                yield run
            if page.next is None:
                return
            after = page.next

    @guarded("list")
    async def first(self) -> RunInfo | None:
        """Return the first run in the order, None when there is none."""
        page = await self.page(1)
        return page.runs[0] if page.runs else None

    @guarded("list")
    async def count(self, *, at_most: int | None = None) -> int:
        """Return how many runs there are; counting ends at ``at_most``, for "more than 10,000"."""
        if at_most is not None and at_most < 1:
            raise QueryError(f"at_most is 1 or more, not {at_most!r}")
        if self._filter.empty:
            return 0
        rows = await self._ask(statement.counting(self._schema, self._question, at_most))
        return int(rows[0]["n"])

    @guarded("list")
    async def summary(self) -> Summary:
        """Return how many runs there are by status, workflow and queue. It reads an index of all
        that the query is about.
        """
        rows = []
        if not self._filter.empty:
            rows = await self._ask(statement.summarizing(self._schema, self._question))
        cells = [(r["status"], r["workflow"], r["queue"], r["n"]) for r in rows]
        counts: list[dict[str, int]] = [{}, {}, {}]
        for *names, n in cells:
            for found, name in zip(counts, names, strict=True):
                found[name] = found.get(name, 0) + n
        return Summary(sum(cell[3] for cell in cells), counts[0], counts[1], counts[2], cells)

    # Looking at one

    @guarded("read")
    async def get(self, run_id: UUID | str) -> RunDetail:
        """Return a run with its payloads, whatever where() says.

        Raises:
            RunNotFoundError: there is no such run.
            ValueError: the id is none.
        """
        run_id = as_run_id(run_id)
        question = Question(ALL, self._carried, self._reading.columns)
        rows = await self._ask(statement.one(self._schema, question, run_id))
        if not rows:
            raise RunNotFoundError(run_id)
        reading = self._reading
        return reading.shown(run_detail(rows[0], reading.store.decode, reading.columns))

    @guarded("read")
    async def timeline(self, run_id: UUID | str, *, payloads: bool = True) -> Timeline:
        """Return all that is known of what happened to a run, in order.

        Args:
            run_id: the run.
            payloads: whether events carry results, signals' payloads and errors.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self.get(run_id)
        store = self._reading.store
        entries = await store.entries(run.id, -1)
        signals, children = await store.signals(run.id), await store.children(run.id)
        ids = {row["worker_id"] for row in entries}
        if run.worker_id is not None:
            ids.add(run.worker_id)
        workers = await store.workers_of(sorted(ids))
        return build(run, entries, signals, children, workers, store, payloads=payloads)

    @guarded("read")
    async def explain(self, run_id: UUID | str) -> list[Finding]:
        """Say why a run does not move: findings, each with its mend, the decisive one first.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self.get(run_id)
        return explain(await gather(self._reading.store, run))

    @guarded("read")
    async def stream(
        self, run_id: UUID | str, *, poll: float = 1.0, payloads: bool = True
    ) -> AsyncIterator[Event]:
        """Yield what happened to a run and then what happens, as it does, until it has ended.

        Args:
            run_id: the run.
            poll: seconds between looks when no notification comes; those of steps are not sent, so
                this is how late their events may be.
            payloads: whether events carry results, signals' payloads and errors.

        Raises:
            RunNotFoundError: there is no such run, or it was pruned meanwhile.
            QueryError: ``poll`` is not at least 0.05.
        """
        if not poll >= 0.05:
            raise QueryError(f"poll is 0.05 seconds or more, not {poll!r}")
        await self.get(run_id)
        reading = self._reading
        async for event in stream(
            reading.store, reading.streams, as_run_id(run_id), poll,
            lambda: self.timeline(run_id, payloads=payloads),
        ):  # fmt: skip
            yield event

    # How

    @property
    def _schema(self) -> str:
        return self._reading.schema

    @property
    def _text(self) -> str:
        return f"{self._order} {self._filter.text}"

    @property
    def _question(self) -> Question:
        if self._reading.store.encodes and any(n == "error_contains" for n, _ in self._filter.rest):
            raise QueryError(
                "error_contains: this Flow has a payload codec, so Postgres can't read its errors"
            )
        reading = self._reading
        return Question(reading.named(self._filter), self._carried, reading.columns)

    @property
    def _carried(self) -> tuple[Condition, ...]:
        """The conditions of everything that is asked."""
        return (*self._reading.conditions, *self._also)

    def _shown(self, row: Any) -> RunInfo:
        reading = self._reading
        return reading.shown(run_info(row, reading.store.decode, reading.columns))

    async def _ask(self, made: statement.Statement) -> list[Any]:
        try:
            store = self._reading.store
            return await store.look(made.sql, made.parameters, ordered=made.ordered)
        except asyncpg.QueryCanceledError as error:
            raise QueryError(
                "the query took longer than 30 s: ask for a workflow, a status or a shorter time, "
                "or count() with at_most"
            ) from error
        except asyncpg.UndefinedColumnError as error:
            raise QueryError(f"columns: {error}; an extension's columns() makes them") from error
        except asyncpg.DataError as error:
            raise QueryError(f"a value doesn't fit its column: {error}") from error

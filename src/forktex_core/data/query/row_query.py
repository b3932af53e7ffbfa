# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`RowQuery`: which rows, in what order, and how they are read. Immutable: each call makes another.

    result = await (
        RowQuery(invoices)
        .where(status="paid", amount__gte=100)
        .where(Q(customer__country="RO") | Q(customer__country="DE"))
        .since(date(2026, 1, 1))
        .order_by("-issued_at")
        .scroll(page_size=50)
    )

Nothing is asked of the database before a method that is awaited.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Self

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.errors import (
    DefinitionConflictError,
    InvalidValueError,
    QueryError,
    QueryLimitError,
)
from forktex_core.data.query import cursor
from forktex_core.data.query.bound import Binder, find_field, relationships
from forktex_core.data.query.evaluate import Stored
from forktex_core.data.query.filters import All, Condition, Filter, Q, condition
from forktex_core.data.query.filters import from_json as filter_from_json
from forktex_core.data.query.filters import to_json as filter_to_json
from forktex_core.data.query.order import Nulls, order_keys, position_of
from forktex_core.data.query.postgres import PostgresReader, StaleDefinitionError
from forktex_core.data.query.request import Archived, Request
from forktex_core.data.query.results import (
    Count,
    CountMode,
    FacetResult,
    GroupResult,
    PageResult,
    RowResult,
    ScrollResult,
)
from forktex_core.data.register import Register, row_of
from forktex_core.data.rows.row import Row
from forktex_core.data.types import Reference

if TYPE_CHECKING:
    from uuid import UUID

_ATTEMPTS = 8
_MEASURES = frozenset({"count", "count_distinct", "sum", "avg", "min", "max"})


@dataclass(frozen=True)
class RowQuery:
    """Rows of a register."""

    register: Register
    filters: tuple[Filter, ...] = ()
    order: tuple[str, ...] = ()
    nulls: Nulls = "last"
    archived_rows: Archived = "without"
    included: tuple[str, ...] = ()
    count_mode: CountMode = "none"
    timeout: float | None = field(default=None)

    def where(self, *conditions: Q, **named: Any) -> Self:
        """Keep the rows for which all conditions hold: `where(status="paid", amount__gte=100)`."""
        made = [each.filter for each in conditions]
        made += [condition(name, value) for name, value in named.items()]
        return replace(self, filters=(*self.filters, *made))

    def since(self, moment: datetime | date) -> Self:
        """Keep the rows whose time field is at `moment` or later."""
        return replace(self, filters=(*self.filters, Condition(("$time",), "gte", moment)))

    def until(self, moment: datetime | date) -> Self:
        """Keep the rows whose time field is before `moment`."""
        return replace(self, filters=(*self.filters, Condition(("$time",), "lt", moment)))

    def order_by(self, *names: str, nulls: Nulls = "last") -> Self:
        """Order by fields, descending where the name begins with `-`; then by id."""
        return replace(self, order=names, nulls=nulls)

    def archived(self, which: Archived = "only") -> Self:
        """Read archived rows: `only` them, `with` the others, or (the default) `without` them."""
        if which not in {"only", "with", "without"}:
            raise InvalidValueError("archived", f"is only, with or without, not {which!r}")
        return replace(self, archived_rows=which)

    def include(self, *names: str) -> Self:
        """Read the rows that these relationships lead to as well, in one statement for each."""
        return replace(self, included=(*self.included, *names))

    def counted(self, mode: CountMode) -> Self:
        """Count the rows with each page: `none` (the default), `capped`, `estimated`, `exact`."""
        if mode not in {"none", "capped", "estimated", "exact"}:
            raise InvalidValueError("count", f"is none, capped, estimated or exact, not {mode!r}")
        return replace(self, count_mode=mode)

    def within_seconds(self, seconds: float) -> Self:
        """Give up after so many seconds, if that is less than the service allows."""
        if type(seconds) not in {int, float} or seconds <= 0:
            raise InvalidValueError("timeout", f"is a number of seconds above 0, not {seconds!r}")
        return replace(self, timeout=float(seconds))

    # as data

    def to_json(self) -> dict[str, Any]:
        """The query as JSON, without its register."""
        return {
            "where": filter_to_json(All(self.filters)),
            "order_by": list(self.order),
            "nulls": self.nulls,
            "archived": self.archived_rows,
            "include": list(self.included),
            "count": self.count_mode,
        }

    @classmethod
    def from_json(cls, register: Register, given: Any) -> Self:
        """The query that a front end sent; raises `QueryError` with the path of the mistake."""
        if not isinstance(given, Mapping):
            raise QueryError("", "a query is an object")
        known = {"where", "order_by", "nulls", "archived", "include", "count"}
        for name in given:
            if name not in known:
                raise QueryError(str(name), f"a query has {', '.join(sorted(known))}")
        limits = register.store.limits
        where = given.get("where")
        made = cls(register, () if where is None else (filter_from_json(where, limits),))
        made = made.order_by(*_names(given, "order_by"), nulls=given.get("nulls", "last"))
        made = made.include(*_names(given, "include"))
        return made.archived(given.get("archived", "without")).counted(given.get("count", "none"))

    # answers

    async def all(self) -> RowResult[Row]:
        """Every row, up to the service's page size; raises `QueryLimitError` for more."""
        most = self.register.store.limits.page_size
        rows, _, seconds = await self.read(most + 1, 0)
        if len(rows) > most:
            raise QueryLimitError("", f"there are more than {most} rows; scroll() or stream() them")
        return RowResult(rows, seconds=seconds)

    async def first(self) -> Row | None:
        """The first row, or None."""
        rows, _, _ = await self.read(1, 0)
        return rows[0] if rows else None

    async def count(self, mode: CountMode = "exact") -> Count:
        """How many rows there are."""
        if mode == "none":
            raise InvalidValueError("count", "is capped, estimated or exact")

        async def count(reader: PostgresReader, request: Request) -> Count | None:
            return await reader.count(request, mode)

        found = await self.ask(count)
        assert found is not None
        return found

    async def page(self, number: int = 1, size: int = 50) -> PageResult[Row]:
        """The numbered page; its cost grows with the number: scroll() where that matters."""
        self._check_size(size)
        if type(number) is not int or not 1 <= number <= 2**40 // size:
            raise InvalidValueError("page", f"is a number from 1 on, not {number!r}")
        rows, total, seconds = await self.read(size + 1, (number - 1) * size)
        return PageResult(rows[:size], number, size, len(rows) > size, total, seconds=seconds)

    async def scroll(self, page_size: int = 50, *, cursor: str | None = None) -> ScrollResult[Row]:
        """The next rows behind a cursor (the first ones without it)."""
        self._check_size(page_size)
        rows, total, seconds, position = await self._scrolled(page_size, cursor)
        more = len(rows) > page_size
        return ScrollResult(rows[:page_size], position, more, total, seconds=seconds)

    async def stream(self, batch: int = 500) -> AsyncIterator[Row]:
        """Every row, read in batches; rows made meanwhile behind the place reached are there."""
        place: str | None = None
        while True:
            result = await self.scroll(batch, cursor=place)
            for row in result:
                yield row
            if not result.has_more:
                return
            place = result.cursor

    async def facet(self, *names: str, most: int = 50) -> FacetResult:
        """How the rows divide by these fields, each without this query's own conditions on it."""
        began = time.perf_counter()
        values, truncated = {}, set()
        for name in names:
            others = tuple(each for each in self.filters if not _is_about(each, name))

            async def facet(reader: PostgresReader, request: Request, name: str = name) -> Any:
                found = find_field(request.definition, name, "facet")
                if found.type.kind is None and "any" not in found.type.operators:
                    message = f"{found.type.type_name} fields have no facets"
                    raise InvalidValueError("facet", message)
                return await reader.facet(request, found, most)

            values[name], more = await replace(self, filters=others).ask(facet)
            truncated |= {name} if more else set()
        return FacetResult(values, frozenset(truncated), time.perf_counter() - began)

    async def aggregate(self, **measures: str) -> Mapping[str, Any]:
        """Measures over all rows: `aggregate(total="sum:amount", rows="count")`."""
        return (await self.group_by().aggregate(**measures)).groups[0]

    def group_by(self, *names: str) -> "Grouping":
        """Groups by fields, to be measured: `group_by("status").aggregate(total="sum:amount")`."""
        return Grouping(self, names)

    async def explain(self) -> dict[str, Any]:
        """PostgreSQL's plan of the query."""

        async def explain(reader: PostgresReader, request: Request) -> dict[str, Any]:
            return await reader.explain(request)

        return await self.ask(explain)

    # how

    def _check_size(self, size: int) -> None:
        most = self.register.store.limits.page_size
        if type(size) is not int or not 1 <= size <= most:
            raise QueryLimitError("size", f"a page has 1 to {most} rows, not {size!r}")

    async def read(self, limit: int, offset: int = 0) -> tuple[list[Row], Count | None, float]:
        """At most `limit` rows, their count as asked, and how long it took."""
        began = time.perf_counter()

        async def read(reader: PostgresReader, request: Request) -> Any:
            request = replace(request, limit=limit, offset=offset)
            rows = await reader.rows(request)
            total = await reader.count(request, self.count_mode)
            return await self._rows(request.definition, rows), total

        rows, total = await self.ask(read)
        return rows, total, time.perf_counter() - began

    async def _scrolled(self, size: int, after: str | None) -> Any:
        began = time.perf_counter()
        store = self.register.store

        async def read(reader: PostgresReader, request: Request) -> Any:
            query = cursor.digest(
                self.register.tenant,
                request.definition.id,
                request.where,
                request.order,
                request.archived,
            )
            position = None
            if after is not None:
                position = cursor.decode(after, request.order, query, store.cursor_key)
            request = replace(request, limit=size + 1, after=position)
            rows = await reader.rows(request)
            total = await reader.count(request, self.count_mode)
            place = None
            if len(rows) > size:
                last = position_of(request.order, rows[size - 1])
                place = cursor.encode(last, query, store.cursor_key)
            return await self._rows(request.definition, rows), total, place

        rows, total, place = await self.ask(read)
        return rows, total, time.perf_counter() - began, place

    async def _rows(self, definition: RegisterDefinition, stored: Sequence[Stored]) -> list[Row]:
        rows = [row_of(definition, each) for each in stored]
        for name in self.included:
            found = find_field(definition, name, "include")
            if not isinstance(found.type, Reference):
                raise InvalidValueError("include", f"{name!r} is no relationship to one row")
            rows = await self._with_included(rows, name, found.type.register)
        return rows

    async def _with_included(self, rows: list[Row], name: str, register: str) -> list[Row]:
        wanted = sorted({row[name] for row in rows if row[name] is not None})
        other = Register(
            register, self.register.tenant, self.register.store, self.register.session, None
        )
        found: dict[UUID, Row] = {}
        limits = self.register.store.limits
        for at in range(0, len(wanted), limits.values_per_condition):
            part = wanted[at : at + limits.values_per_condition]
            query = RowQuery(other).where(id__in=part).archived("with")
            read, _, _ = await query.read(len(part), 0)
            found |= {each.id: each for each in read}
        return [replace(row, included={**row.included, name: found.get(row[name])}) for row in rows]

    async def ask[AnswerT](
        self, work: Callable[[PostgresReader, Request], Awaitable[AnswerT]]
    ) -> AnswerT:
        """Do `work` by definitions that are true when it is done."""
        register = self.register
        await register.store.check("read", register.tenant, register.name)
        reader = PostgresReader(register.store, register.tenant, register.session)
        for attempt in range(_ATTEMPTS):
            request = await self._request(anew=attempt > 0)
            try:
                return await work(reader, request)
            except StaleDefinitionError:
                continue
        raise DefinitionConflictError(register.name)

    async def _request(self, *, anew: bool) -> Request:
        register, limits = self.register, self.register.store.limits
        definition = await register.known(anew=anew)
        given = All(tuple(_timed(each, definition.time_field) for each in self.filters))
        registers = await self._registers(definition, given, anew=anew)
        where = Binder(registers, limits, datetime.now(UTC)).bind(definition, given)
        order = order_keys(definition, self.order, self.nulls)
        timeout = min(self.timeout or limits.query_timeout, limits.query_timeout)
        return Request(definition, where, order, self.archived_rows, timeout=timeout)

    async def _registers(
        self, definition: RegisterDefinition, given: Filter, *, anew: bool
    ) -> dict[str, RegisterDefinition]:
        """The registers that the filter's paths go through."""
        found: dict[str, RegisterDefinition] = {}
        for path in sorted(relationships(given)):
            at = definition
            for name in path:
                step = at.by_name.get(name)
                if step is None or not isinstance(step.type, Reference):
                    break  # binding says what is wrong with it
                other = step.type.register
                if other not in found:
                    register = self.register
                    target = Register(
                        other, register.tenant, register.store, register.session, None
                    )
                    found[other] = await target.known(anew=anew)
                at = found[other]
        return found


@dataclass(frozen=True)
class Grouping:
    """Groups of a query's rows, to be measured."""

    query: RowQuery
    names: tuple[str, ...]

    async def aggregate(self, **measures: str) -> GroupResult:
        """Measure each group: `aggregate(total="sum:amount", rows="count")`.

        The functions are count, count_distinct, sum, avg, min and max.
        """
        began = time.perf_counter()

        async def ask(reader: PostgresReader, request: Request) -> list[dict[str, Any]]:
            definition = request.definition
            by = [find_field(definition, name, "group_by") for name in self.names]
            for each in by:
                if each.type.kind is None:
                    message = f"{each.type.type_name} fields such as {each.name!r} make no groups"
                    raise InvalidValueError("group_by", message)
            asked = [_measure(definition, name, said) for name, said in measures.items()]
            limit = self.query.register.store.limits.page_size
            return await reader.aggregate(replace(request, limit=limit), by, asked)

        groups = await self.query.ask(ask)
        return GroupResult(groups, time.perf_counter() - began)


def _measure(definition: RegisterDefinition, name: str, said: str) -> tuple[str, str, Any]:
    function, _, field_name = str(said).partition(":")
    if function not in _MEASURES or (not field_name and function != "count"):
        known = ", ".join(sorted(_MEASURES))
        raise InvalidValueError(f"aggregate.{name}", f'is "function:field" with one of {known}')
    if not field_name:
        return name, function, None
    found = find_field(definition, field_name, f"aggregate.{name}")
    if found.type.kind is None or (function in {"sum", "avg"} and found.type.kind != "number"):
        message = f"{found.type.type_name} fields such as {field_name!r} have no {function}"
        raise InvalidValueError(f"aggregate.{name}", message)
    return name, function, found


def _timed(given: Filter, time_field: str) -> Filter:
    """The filter, with the time field's name where `since` and `until` left it open."""
    if isinstance(given, Condition) and given.path == ("$time",):
        return replace(given, path=(time_field,))
    return given


def _is_about(given: Filter, name: str) -> bool:
    return isinstance(given, Condition) and given.path == (name,)


def _names(given: Mapping[str, Any], key: str) -> Sequence[str]:
    names = given.get(key, [])
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise QueryError(key, "is a list of names")
    return names

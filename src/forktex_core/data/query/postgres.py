# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Reading a register of the database: a checked request becomes one statement.

Each statement begins with the versions of all registers that it touches, read in the same snapshot
as the rows; `StaleDefinitionError` says that one of them is not the version that the statement was
made for, and the caller makes it anew.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.data.definition import FieldDefinition
from forktex_core.data.errors import QueryLimitError
from forktex_core.data.query.compile import Statement, condition_sql, key_sql
from forktex_core.data.query.evaluate import Stored
from forktex_core.data.query.order import (
    Segment,
    after_sql,
    order_sql,
    segment_sql,
    segments,
)
from forktex_core.data.query.request import Request
from forktex_core.data.query.results import Count, CountMode, FacetValue
from forktex_core.data.store.data_store import DataStore

_ROW = (
    *("id", "revision", "payload::text", "created_at", "updated_at"),
    *("created_by", "updated_by", "archived_at"),
)
_LIVE = {
    "without": "archived_at IS NULL",
    "only": "archived_at IS NOT NULL",
    "with": "true",
}


class StaleDefinitionError(Exception):
    """A register is not at the version that the statement was made for."""


class PostgresReader:
    """Reads the rows of one tenant's registers."""

    def __init__(self, store: DataStore, tenant: str, session: AsyncSession | None) -> None:
        self._store = store
        self._tenant = tenant
        self._session = session

    async def rows(self, request: Request) -> list[Stored]:
        """The rows in order, at most `limit` of them."""
        found: list[Stored] = []
        numbered = request.offset > 0  # pages by number know no segments: they are sorted whole
        for segment in (None,) if numbered else segments(request.order, request.after):
            statement = Statement(self._store.schema)
            sql = self._rows_sql(statement, request, segment, request.limit - len(found))
            found += map(_stored, await self._fetch(statement, sql, request))
            if len(found) >= request.limit:
                break
        return found

    def _from(self, statement: Statement, request: Request) -> str:
        table, own = statement.rows(request.definition, "r")
        where = condition_sql(statement, request.where, "r")
        return f"{table} WHERE {own} AND r.{_LIVE[request.archived]} AND {where}".replace(
            "r.true", "true"
        )

    def _rows_sql(
        self, statement: Statement, request: Request, segment: Segment | None, most: int
    ) -> str:
        columns = ", ".join(f"r.{name}" for name in _ROW)
        source = self._from(statement, request)
        begin = after_sql(statement, request.order, request.after, segment, "r")
        limit, offset = statement.arg(most, "bigint"), statement.arg(request.offset, "bigint")
        return (
            f"SELECT {columns} FROM {source} AND {segment_sql(request.order, segment, 'r')} "  # noqa: S608 - see compile
            f"AND {begin} ORDER BY {order_sql(request.order, segment, 'r')} "
            f"LIMIT {limit} OFFSET {offset}"
        )

    async def count(self, request: Request, mode: CountMode) -> Count | None:
        """How many rows there are, as well as the mode asks."""
        if mode == "none":
            return None
        statement = Statement(self._store.schema)
        if mode == "estimated":
            return Count(await self.estimate(request), "estimate")
        source = self._from(statement, request)
        if mode == "exact":
            sql = f"SELECT count(*) AS n FROM {source}"  # noqa: S608 - see compile
            return Count((await self._fetch(statement, sql, request))[0]["n"], "exact")
        cap = self._store.limits.capped_count
        limit = statement.arg(cap + 1, "bigint")
        sql = f"SELECT count(*) AS n FROM (SELECT 1 FROM {source} LIMIT {limit}) capped"  # noqa: S608 - see compile
        found = (await self._fetch(statement, sql, request))[0]["n"]
        return Count(cap, "at_least") if found > cap else Count(found, "exact")

    async def estimate(self, request: Request) -> int:
        """The planner's estimate of how many rows there are."""
        return int((await self.explain(request))["Plan Rows"])

    async def explain(self, request: Request) -> dict[str, Any]:
        """The plan of the rows' statement, as PostgreSQL tells it."""
        statement = Statement(self._store.schema)
        sql = f"EXPLAIN (FORMAT JSON) SELECT r.id FROM {self._from(statement, request)}"  # noqa: S608 - see compile
        async with self._store.connection(self._session, self._tenant) as connection:
            answer = await connection.fetchval(sql, *statement.args)
        plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
        return plan

    async def facet(
        self, request: Request, found: FieldDefinition, most: int
    ) -> tuple[list[FacetValue], bool]:
        """The values of a field, the most frequent first, and whether there are more."""
        statement = Statement(self._store.schema)
        source = self._from(statement, request)
        if found.type.kind is None:
            value = f"jsonb_array_elements_text(r.payload->'{found.number}')"
        else:
            value = key_sql(found, "r")
        limit = statement.arg(most + 1, "bigint")
        sql = (
            f"SELECT value, count(*) AS n FROM (SELECT {value} AS value FROM {source}) v "  # noqa: S608 - see compile
            f"WHERE value IS NOT NULL GROUP BY value ORDER BY n DESC, value LIMIT {limit}"
        )
        rows = await self._fetch(statement, sql, request)
        made = [FacetValue(found.type.from_key(row["value"]), row["n"]) for row in rows[:most]]
        return made, len(rows) > most

    async def aggregate(
        self,
        request: Request,
        by: Sequence[FieldDefinition],
        measures: Sequence[tuple[str, str, FieldDefinition | None]],
    ) -> list[dict[str, Any]]:
        """Groups by the fields' keys with measures `(name, function, field)`."""
        statement = Statement(self._store.schema)
        source = self._from(statement, request)
        keys = [key_sql(each, "r") for each in by]
        columns = [f"{key} AS g{at}" for at, key in enumerate(keys)]
        columns += [
            f"{_measure(function, each)} AS m{at}"
            for at, (_, function, each) in enumerate(measures)
        ]
        sql = f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608 - see compile
        if keys:
            places = ", ".join(str(at + 1) for at in range(len(keys)))
            limit = statement.arg(request.limit, "bigint")
            sql += f" GROUP BY {places} ORDER BY {places} LIMIT {limit}"
        rows = await self._fetch(statement, sql, request)
        return [_group(row, by, measures) for row in rows]

    async def _fetch(self, statement: Statement, sql: str, request: Request) -> list[Any]:
        """The rows of `sql`, read together with the versions of the registers."""
        registers = sorted(statement.registers.items())
        ids = statement.arg([each for each, _ in registers], "bigint[]")
        tenant = statement.arg(self._tenant, "text")
        table = self._store.table("register")
        whole = (
            f"SELECT v.versions, q.* FROM (SELECT array_agg(d.version ORDER BY d.id) AS versions "  # noqa: S608 - see compile
            f"FROM {table} d WHERE d.id = ANY({ids}) AND d.tenant = {tenant} "
            "AND d.dropped_at IS NULL) v LEFT JOIN LATERAL "
            f"(SELECT true AS there, s.* FROM ({sql}) s) q ON true"
        )
        async with self._store.connection(self._session, self._tenant) as connection:
            try:
                rows = await connection.fetch(whole, *statement.args, timeout=request.timeout)
            except (TimeoutError, asyncpg.QueryCanceledError) as exc:
                message = f"no answer within {request.timeout} s; narrow it, or index its fields"
                raise QueryLimitError("", message) from exc
        if rows[0]["versions"] != [each.version for _, each in registers]:
            raise StaleDefinitionError
        return [row for row in rows if row["there"]]


def _stored(row: Any) -> Stored:
    return Stored(
        row["id"],
        json.loads(row["payload"]),
        row["revision"],
        row["created_at"],
        row["updated_at"],
        row["created_by"],
        row["updated_by"],
        row["archived_at"],
    )


_FUNCTIONS = {"sum": "sum", "min": "min", "max": "max", "avg": "avg"}


def _measure(function: str, found: FieldDefinition | None) -> str:
    if found is None:
        return "count(*)"
    key = key_sql(found, "r")
    if function == "count":
        return f"count({key})"
    if function == "count_distinct":
        return f"count(DISTINCT {key})"
    return f"{_FUNCTIONS[function]}({key})"


def _group(
    row: Any,
    by: Sequence[FieldDefinition],
    measures: Sequence[tuple[str, str, FieldDefinition | None]],
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for at, each in enumerate(by):
        key = row[f"g{at}"]
        made[each.name] = None if key is None else each.type.from_key(key)
    for at, (name, function, found) in enumerate(measures):
        made[name] = measured(row[f"m{at}"], function, found)
    return made


def measured(value: Any, function: str, found: FieldDefinition | None) -> Any:
    """A measure in Python's form: minimum and maximum as values of the field, others as numbers."""
    if value is None or found is None or function in {"count", "count_distinct"}:
        return value
    if function in {"min", "max"}:
        return found.type.from_key(value)
    return Decimal(value)

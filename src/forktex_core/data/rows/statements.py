# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The statements that write rows. Each is one statement, so that it is one transaction by itself,
and each begins with the register's fence: it writes nothing when the definition is another.

Arguments 1 to 3 are always the register, the tenant and the version that the writer knows.
"""

from collections.abc import Sequence

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.store.migrate import quote

_TYPES = {"t": "text", "n": "numeric", "m": "timestamptz", "u": "uuid"}
_CASTS = {"text": "text", "number": "numeric", "moment": "timestamptz", "uuid": "uuid"}


def columns_of(definition: RegisterDefinition) -> tuple[tuple[str, str, int], ...]:
    """The columns that a writer keeps: name, SQL type, number of the field."""
    return tuple(
        (each.column, _CASTS[str(each.type.kind)], each.number)
        for each in definition.fields
        if each.column is not None
    )


class Statements:
    """The writing statements of one register at one version."""

    def __init__(self, schema: str, definition: RegisterDefinition) -> None:
        self._schema = quote(schema)
        self._own = definition.table is not None
        self._table = f"{self._schema}.{quote(definition.table or 'row')}"
        self._columns = columns_of(definition)

    @property
    def _fence(self) -> str:
        return (
            f"fence AS MATERIALIZED (SELECT {self._schema}.fence($1, $2, $3) AS ok, "
            "clock_timestamp() AS at)"
        )

    @property
    def _names(self) -> Sequence[str]:
        return [name for name, _, _ in self._columns]

    def _keeps(self, alias: str) -> str:
        return "true" if self._own else f"{alias}.register_id = $1"

    def insert(self, targets: Sequence[RegisterDefinition]) -> str:
        """Insert rows: 4 ids, 5 payloads, 6 by, 7 to 9 unique fields, values and rows, 10 search;
        then for each target register its id and the ids of its rows that are referred to; then a
        list for each column.

        Answers whether the definition is known, the time, and how many rows were made: none when
        a row that they refer to is missing.
        """
        at = 11
        locks, wanted = [], []
        for number, target in enumerate(targets):
            locks.append(self._lock(f"t{number}", target, at))
            wanted.append(self._all_there(number, at))
            at += 2
        types = ["uuid", "text", "text", *(kind for _, kind, _ in self._columns)]
        places = ["$4", "$5", "$10", *(f"${at + n}" for n in range(len(self._columns)))]
        given = ", ".join(f"{place}::{kind}[]" for place, kind in zip(places, types, strict=True))
        names = ["id", "payload", "search", *self._names]
        register = "" if self._own else "register_id, "
        value = "" if self._own else "$1, "
        extra = "".join(f", {name}" for name in self._names)
        picked = "".join(f", g.{name}" for name in self._names)
        ready = " AND ".join(["fence.ok", *wanted])
        return (
            f"WITH {', '.join([self._fence, *locks])}, "  # noqa: S608 - names are numbers, values are arguments
            f"going AS MATERIALIZED (SELECT fence.at FROM fence WHERE {ready}), "
            f"held AS (INSERT INTO {self._schema}.unique_value "
            "(register_id, fields, value, row_id) "
            "SELECT $1, u.fields, u.value, u.row_id FROM going, "
            "unnest($7::text[], $8::text[], $9::uuid[]) AS u(fields, value, row_id)), "
            f"made AS (INSERT INTO {self._table} ({register}id, payload, search, created_at, "
            f"updated_at, created_by, updated_by{extra}) SELECT {value}g.id, g.payload::jsonb, "
            f"g.search, going.at, going.at, $6::text, $6::text{picked} FROM going, "
            f"unnest({given}) AS g({', '.join(names)}) RETURNING id) "
            "SELECT fence.ok, fence.at, (SELECT count(*) FROM made) AS made FROM fence"
        )

    def _lock(self, name: str, target: RegisterDefinition, at: int) -> str:
        """The rows that are referred to, kept from being deleted until the writer has ended."""
        table = f"{self._schema}.{quote(target.table or 'row')}"
        keeps = f"${at}::bigint IS NOT NULL" if target.table else f"register_id = ${at}::bigint"
        return (
            f"{name} AS (SELECT id FROM {table} WHERE {keeps} AND id = ANY(${at + 1}::uuid[]) "  # noqa: S608 - names are numbers, values are arguments
            "AND archived_at IS NULL FOR KEY SHARE)"
        )

    def _all_there(self, number: int, at: int) -> str:
        return f"(SELECT count(*) FROM t{number}) = cardinality(${at + 1}::uuid[])"  # noqa: S608 - numbers

    def update(self, targets: Sequence[RegisterDefinition]) -> str:
        """Change a row at a revision: 4 id, 5 revision, 6 payload, 7 by, 8 search, 9 what was
        before, 10 change set, 11 and 12 unique fields and values that go, 13 and 14 those that
        come; then for each target as `insert`; then a value for each column.

        Answers whether the definition is known, the time, and the new revision.
        """
        at = 15
        locks, wanted = [], ["fence.ok"]
        for number, target in enumerate(targets):
            locks.append(self._lock(f"t{number}", target, at))
            wanted.append(self._all_there(number, at))
            at += 2
        sets = "".join(
            f", {name} = ${at + n}::{kind}" for n, (name, kind, _) in enumerate(self._columns)
        )
        return (
            f"WITH {', '.join([self._fence, *locks])}, "  # noqa: S608 - see insert
            f"done AS (UPDATE {self._table} r SET payload = $6::jsonb, "
            f"search = $8, revision = r.revision + 1, updated_at = fence.at, updated_by = $7{sets} "
            f"FROM fence WHERE {' AND '.join(wanted)} AND {self._keeps('r')} AND r.id = $4 "
            "AND r.revision = $5 AND r.archived_at IS NULL "
            "RETURNING r.id, r.revision, r.updated_at), "
            f"gone AS (DELETE FROM {self._schema}.unique_value v USING done, "
            "unnest($11::text[], $12::text[]) AS u(fields, value) WHERE v.register_id = $1 "
            "AND v.fields = u.fields AND v.value = u.value AND v.row_id = done.id), "
            f"came AS (INSERT INTO {self._schema}.unique_value "
            "(register_id, fields, value, row_id) SELECT $1, u.fields, u.value, done.id FROM done, "
            "unnest($13::text[], $14::text[]) AS u(fields, value)), "
            f"kept AS (INSERT INTO {self._schema}.history "
            "(register_id, row_id, revision, change_set, action, at, by, before) "
            "SELECT $1, done.id, done.revision, $10::uuid, 'update', "
            "done.updated_at, $7, $9::jsonb FROM done WHERE $9 IS NOT NULL) "
            "SELECT fence.ok, fence.at, (SELECT revision FROM done) AS revision FROM fence"
        )

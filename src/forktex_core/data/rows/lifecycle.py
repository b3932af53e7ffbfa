# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Archiving, restoring and deleting rows, with what they take along. One transaction each.

An archived row is out of every query that does not ask for it, and has given its unique values
back. It takes along the rows that refer to it by a `cascade` relationship; all of them carry the
same change set, by which `restore` brings them back together. Archiving is never refused: what
refers to an archived row still does.

Deleting follows the rules of relationships: `restrict` refuses while a row (archived or not)
refers to the deleted one, `set_null` empties the field, `cascade` deletes the row too. A deleted
row leaves its last payload in the history, if the register keeps one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from forktex_core.data.definition import FieldDefinition, RegisterDefinition
from forktex_core.data.errors import DuplicateError, LimitError, RestrictedError
from forktex_core.data.query.compile import key_sql
from forktex_core.data.query.postgres import StaleDefinitionError
from forktex_core.data.rows.values import uniques
from forktex_core.data.store.migrate import quote
from forktex_core.data.types import Reference

_DEEPEST = 16


@dataclass(frozen=True)
class Referrer:
    """A field of a register by which its rows refer to those of another one."""

    register: RegisterDefinition
    field: FieldDefinition


class Lifecycle:
    """Moves rows of one tenant; `registers` are all of its registers, at the versions known."""

    def __init__(
        self,
        schema: str,
        registers: Sequence[RegisterDefinition],
        connection: Any,
        by: str | None,
        most: int,
    ) -> None:
        self._schema = quote(schema)
        self._registers = registers
        self._connection = connection
        self._by = by
        self._most = most
        self._moved = 0

    async def fence(self, definition: RegisterDefinition) -> None:
        """Hold the definition as it is until the transaction ends."""
        ok = await self._connection.fetchval(
            f"SELECT {self._schema}.fence($1, $2, $3)",
            definition.id,
            definition.tenant,
            definition.version,
        )
        if not ok:
            raise StaleDefinitionError

    async def archive(
        self, definition: RegisterDefinition, ids: Sequence[UUID], change_set: UUID, depth: int = 0
    ) -> int:
        """Archive rows that are not archived yet, and what they take along; returns how many."""
        self._check(len(ids), depth)
        await self.fence(definition)
        table, keeps = self._place(definition)
        rows = await self._connection.fetch(
            f"WITH gone AS (UPDATE {table} r SET archived_at = clock_timestamp(), "  # noqa: S608 - names are numbers, values are arguments
            "archived_with = $3, revision = r.revision + 1, updated_at = clock_timestamp(), "
            f"updated_by = $4 WHERE {keeps} AND r.id = ANY($2::uuid[]) AND r.archived_at IS NULL "
            "RETURNING r.id, r.revision, r.archived_at), "
            f"held AS (DELETE FROM {self._schema}.unique_value v USING gone "
            "WHERE v.register_id = $1 AND v.row_id = gone.id), "
            f"kept AS (INSERT INTO {self._schema}.history "
            "(register_id, row_id, revision, change_set, action, at, by, before) "
            "SELECT $1, id, revision, $3, 'archive', archived_at, $4, '{}' FROM gone WHERE $5) "
            "SELECT id FROM gone",
            definition.id,
            list(ids),
            change_set,
            self._by,
            definition.history,
        )
        moved = [row["id"] for row in rows]
        if not moved:
            return 0
        count = len(moved)
        for each in self._referrers(definition):
            if _rule(each) == "cascade":
                others = await self._referring(each, moved, "r.archived_at IS NULL")
                if others:
                    count += await self.archive(each.register, others, change_set, depth + 1)
        return count

    async def restore(self, definition: RegisterDefinition, ids: Sequence[UUID]) -> int:
        """Restore archived rows and all that was archived with them; returns how many.

        Raises `DuplicateError` when another row holds a unique value by now; then nothing is
        restored.
        """
        table, keeps = self._place(definition)
        sets = await self._connection.fetch(
            f"SELECT DISTINCT archived_with FROM {table} r WHERE {keeps} "  # noqa: S608 - see archive
            "AND r.id = ANY($2::uuid[]) AND r.archived_at IS NOT NULL",
            definition.id,
            list(ids),
        )
        change_sets = [row["archived_with"] for row in sets]
        count = 0
        for each in self._registers if change_sets else ():
            count += await self._restore(each, change_sets)
        return count

    async def _restore(self, definition: RegisterDefinition, change_sets: Sequence[UUID]) -> int:
        await self.fence(definition)
        table, keeps = self._place(definition)
        rows = await self._connection.fetch(
            f"WITH back AS (UPDATE {table} r SET archived_at = NULL, archived_with = NULL, "  # noqa: S608 - see archive
            "revision = r.revision + 1, updated_at = clock_timestamp(), updated_by = $3 "
            f"WHERE {keeps} AND r.archived_with = ANY($2::uuid[]) "
            "RETURNING r.id, r.revision, r.updated_at, r.payload), "
            f"kept AS (INSERT INTO {self._schema}.history "
            "(register_id, row_id, revision, change_set, action, at, by, before) "
            "SELECT $1, id, revision, $5, 'restore', updated_at, $3, '{}' FROM back WHERE $4) "
            "SELECT id, payload::text FROM back",
            definition.id,
            list(change_sets),
            self._by,
            definition.history,
            change_sets[0],
        )
        held = [
            (each.fields, each.value, row["id"])
            for row in rows
            for each in uniques(definition, json.loads(row["payload"]))
        ]
        try:
            await self._connection.executemany(
                f"INSERT INTO {self._schema}.unique_value (register_id, fields, value, row_id) "  # noqa: S608 - see archive
                "VALUES ($1, $2, $3, $4)",
                [(definition.id, *each) for each in held],
            )
        except asyncpg.UniqueViolationError as exc:
            raise DuplicateError(definition.name, _unique_names(definition)) from exc
        return len(rows)

    async def delete(
        self, definition: RegisterDefinition, ids: Sequence[UUID], change_set: UUID, depth: int = 0
    ) -> int:
        """Delete rows for ever, by the rules of what refers to them; returns how many."""
        self._check(len(ids), depth)
        await self.fence(definition)
        table, keeps = self._place(definition)
        rows = await self._connection.fetch(
            f"SELECT r.id FROM {table} r WHERE {keeps} AND r.id = ANY($2::uuid[]) FOR UPDATE",  # noqa: S608 - see archive
            definition.id,
            list(ids),
        )
        going = [row["id"] for row in rows]
        if not going:
            return 0
        count = 0
        for each in self._referrers(definition):
            count += await self._let_go(each, going, change_set, depth)
        await self._connection.execute(
            f"WITH gone AS (DELETE FROM {table} r WHERE {keeps} AND r.id = ANY($2::uuid[]) "  # noqa: S608 - see archive
            "RETURNING r.id, r.revision, r.payload), "
            f"held AS (DELETE FROM {self._schema}.unique_value v USING gone "
            "WHERE v.register_id = $1 AND v.row_id = gone.id) "
            f"INSERT INTO {self._schema}.history "
            "(register_id, row_id, revision, change_set, action, at, by, before) "
            "SELECT $1, id, revision + 1, $3, 'delete', clock_timestamp(), $4, payload "
            "FROM gone WHERE $5",
            definition.id,
            going,
            change_set,
            self._by,
            definition.history,
        )
        return count + len(going)

    async def _let_go(
        self, each: Referrer, going: Sequence[UUID], change_set: UUID, depth: int
    ) -> int:
        """Do with the rows that refer to those that go what the relationship says."""
        others = await self._referring(each, going, "true")
        others = [other for other in others if other not in set(going)]
        if not others:
            return 0
        if _rule(each) == "restrict":
            raise RestrictedError(each.register.name, each.field.name, len(others))
        if _rule(each) == "cascade":
            return await self.delete(each.register, others, change_set, depth + 1)
        await self._empty(each, others, change_set)
        return 0

    async def _empty(self, each: Referrer, ids: Sequence[UUID], change_set: UUID) -> None:
        await self.fence(each.register)
        table, keeps = self._place(each.register)
        column = f", {each.field.column} = NULL" if each.field.column else ""
        number = str(each.field.number)
        await self._connection.execute(
            f"WITH old AS (SELECT r.id, r.payload->$3 AS value FROM {table} r WHERE {keeps} "  # noqa: S608 - see archive
            "AND r.id = ANY($2::uuid[]) FOR UPDATE), "
            f"done AS (UPDATE {table} r SET payload = r.payload - $3{column}, updated_by = $5, "
            f"revision = r.revision + 1, updated_at = clock_timestamp() FROM old WHERE {keeps} "
            "AND r.id = old.id RETURNING r.id, r.revision, r.updated_at, old.value) "
            f"INSERT INTO {self._schema}.history "
            "(register_id, row_id, revision, change_set, action, at, by, before) "
            "SELECT $1, id, revision, $4, 'update', updated_at, $5, jsonb_build_object($3, value) "
            "FROM done WHERE $6",
            each.register.id,
            list(ids),
            number,
            change_set,
            self._by,
            each.register.history,
        )

    async def _referring(self, each: Referrer, ids: Sequence[UUID], which: str) -> list[UUID]:
        table, keeps = self._place(each.register)
        rows = await self._connection.fetch(
            f"SELECT r.id FROM {table} r WHERE {keeps} AND {key_sql(each.field, 'r')} = "  # noqa: S608 - see archive
            f"ANY($2::uuid[]) AND {which} LIMIT $3",
            each.register.id,
            list(ids),
            self._most + 1,
        )
        return [row["id"] for row in rows]

    def _referrers(self, definition: RegisterDefinition) -> Iterator[Referrer]:
        for other in self._registers:
            for field in other.fields:
                if isinstance(field.type, Reference) and field.type.register == definition.name:
                    yield Referrer(other, field)

    def _place(self, definition: RegisterDefinition) -> tuple[str, str]:
        """The table of a register's rows, and the condition that keeps to them by argument 1."""
        if definition.table is not None:
            return f"{self._schema}.{quote(definition.table)}", "$1::bigint IS NOT NULL"
        return f"{self._schema}.row", "r.register_id = $1"

    def _check(self, more: int, depth: int) -> None:
        self._moved += more
        if self._moved > self._most or depth > _DEEPEST:
            raise LimitError(
                "", f"a call moves at most {self._most} rows, with what they take along"
            )


def _rule(each: Referrer) -> str:
    kind: Any = each.field.type
    return str(kind.on_delete)


def _unique_names(definition: RegisterDefinition) -> list[str]:
    names = [each.name for each in definition.fields if each.unique]
    for group in definition.unique_together:
        names += [definition.by_number[number].name for number in group]
    return list(dict.fromkeys(names))

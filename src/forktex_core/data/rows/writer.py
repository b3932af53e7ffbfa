# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Writing rows: values are checked, statements are run, and what the database says is told.

A change of a row reads it, makes the new payload from the whole of it, and writes on condition that
the revision is still the one read: two round trips, no lock held between them. When the row was
changed meanwhile it is read again, unless the caller named the revision: then it is their conflict.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.errors import (
    DuplicateError,
    InvalidRowError,
    LimitError,
    Problem,
)
from forktex_core.data.limits import Limits
from forktex_core.data.query.evaluate import Stored
from forktex_core.data.query.postgres import StaleDefinitionError
from forktex_core.data.rows.statements import Statements, columns_of
from forktex_core.data.rows.values import (
    Payload,
    changed_payload,
    key_of,
    new_payload,
    references,
    search_text,
    uniques,
)
from forktex_core.data.types import AutoNumber
from forktex_core.db import uuid7

Registers = Mapping[str, RegisterDefinition]


class Writer:
    """Writes the rows of one register at one version; `registers` are those it refers to."""

    def __init__(
        self, schema: str, definition: RegisterDefinition, registers: Registers, limits: Limits
    ) -> None:
        self._schema = schema
        self._definition = definition
        self._registers = registers
        self._limits = limits
        self._statements = Statements(schema, definition)

    async def insert(
        self, connection: Any, given: Sequence[Mapping[str, Any]], by: str | None
    ) -> list[Stored]:
        """Make rows, all or none."""
        most = self._limits.rows_per_call
        if len(given) > most:
            raise LimitError(self._definition.name, f"a call writes at most {most} rows")
        now = datetime.now(UTC)
        payloads = self._payloads(given, now)
        await self._number(connection, payloads)
        ids = [uuid7() for _ in payloads]
        return await self._insert(connection, ids, payloads, by)

    def _payloads(self, given: Sequence[Mapping[str, Any]], now: datetime) -> list[Payload]:
        made, problems = [], []
        for at, each in enumerate(given):
            try:
                made.append(new_payload(self._definition, each, now, self._limits))
            except InvalidRowError as exc:
                if len(given) == 1:
                    raise
                problems += [
                    Problem(f"[{at}].{problem.path}", problem.code, problem.message)
                    for problem in exc.problems
                ]
        if problems:
            raise InvalidRowError(self._definition.name, problems)
        return made

    async def _number(self, connection: Any, payloads: list[Payload]) -> None:
        """Give auto-numbers, a block at a time."""
        for each in self._definition.fields:
            if not isinstance(each.type, AutoNumber) or not payloads:
                continue
            last = await connection.fetchval(
                f'INSERT INTO "{self._schema}".counter AS c (register_id, field, last) '  # noqa: S608 - the schema is the service's
                "VALUES ($1, $2, $3::bigint + $4 - 1) ON CONFLICT (register_id, field) "
                "DO UPDATE SET last = c.last + $4 RETURNING last",
                self._definition.id,
                each.number,
                each.type.start,
                len(payloads),
            )
            for at, payload in enumerate(payloads):
                payload[str(each.number)] = last - len(payloads) + 1 + at

    async def _insert(
        self, connection: Any, ids: list[UUID], payloads: list[Payload], by: str | None
    ) -> list[Stored]:
        held = [
            (each.fields, each.value, id_)
            for id_, payload in zip(ids, payloads, strict=True)
            for each in uniques(self._definition, payload)
        ]
        targets, target_args = self._targets(payloads)
        columns = columns_of(self._definition)
        row = await self._run(
            connection,
            self._statements.insert(targets),
            ids,
            [json.dumps(each, ensure_ascii=False) for each in payloads],
            by,
            *(list(part) for part in (zip(*held, strict=True) if held else ((), (), ()))),
            [search_text(self._definition, each) for each in payloads],
            *target_args,
            *[
                [key_of(self._definition.by_number[number], each) for each in payloads]
                for _, _, number in columns
            ],
        )
        if row["made"] != len(ids):
            raise self._missing_reference(targets)
        return [
            Stored(id_, payload, 1, row["at"], row["at"], by, by)
            for id_, payload in zip(ids, payloads, strict=True)
        ]

    def _targets(self, payloads: Sequence[Payload]) -> tuple[list[RegisterDefinition], list[Any]]:
        """The registers that rows refer to, and the arguments that name the rows."""
        ids: dict[str, set[UUID]] = {}
        for payload in payloads:
            for each, stored in references(self._definition, payload):
                kind: Any = each.type
                ids.setdefault(kind.register, set()).update(map(UUID, stored))
        targets, args = [], []
        for name, wanted in sorted(ids.items()):
            target = self._registers[name]
            targets.append(target)
            args += [target.id, sorted(wanted)]
        return targets, args

    def _missing_reference(self, targets: Sequence[RegisterDefinition]) -> InvalidRowError:
        names = " or ".join(repr(each.name) for each in targets)
        message = f"a row that it refers to is not in the register {names}"
        return InvalidRowError(self._definition.name, [Problem("", "reference", message)])

    async def change(
        self,
        connection: Any,
        old: Stored,
        given: Mapping[str, Any],
        by: str | None,
        change_set: UUID,
    ) -> Stored | None:
        """Change the row if it still has the revision of `old`; None when it has not."""
        payload = changed_payload(self._definition, dict(old.payload), given, self._limits)
        if payload == old.payload:
            return old
        before, after = (uniques(self._definition, each) for each in (dict(old.payload), payload))
        gone, came = sorted(before - after, key=str), sorted(after - before, key=str)
        targets, target_args = self._targets([_news(old.payload, payload)])
        row = await self._run(
            connection,
            self._statements.update(targets),
            old.id,
            old.revision,
            json.dumps(payload, ensure_ascii=False),
            by,
            search_text(self._definition, payload),
            json.dumps(_before(old.payload, payload)) if self._definition.history else None,
            change_set,
            [each.fields for each in gone],
            [each.value for each in gone],
            [each.fields for each in came],
            [each.value for each in came],
            *target_args,
            *[
                key_of(self._definition.by_number[number], payload)
                for _, _, number in columns_of(self._definition)
            ],
        )
        if row["revision"] is None:
            return None
        return Stored(
            old.id, payload, row["revision"], old.created_at, row["at"], old.created_by, by
        )

    async def _run(self, connection: Any, sql: str, *args: Any) -> Any:
        definition = self._definition
        try:
            row = await connection.fetchrow(
                sql, definition.id, definition.tenant, definition.version, *args
            )
        except asyncpg.UniqueViolationError as exc:
            raise self._duplicate(exc) from exc
        if not row["ok"]:
            raise StaleDefinitionError
        return row

    def _duplicate(self, exc: Any) -> Exception:
        """Which fields the refused value belongs to, from the server's detail of the key."""
        detail = str(exc.detail or "")
        _, found, rest = detail.partition("=(")
        if not found or exc.table_name != "unique_value":
            return DuplicateError(self._definition.name, ["id"])
        numbers = rest.split(", ")[1].split(",") if ", " in rest else []
        names = [
            self._definition.by_number[int(each)].name
            for each in numbers
            if each.isdigit() and int(each) in self._definition.by_number
        ]
        return DuplicateError(self._definition.name, names)


def _before(old: Mapping[str, Any], new: Payload) -> dict[str, Any]:
    """The values that a change took away; null where there was none."""
    return {key: old.get(key) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def _news(old: Mapping[str, Any], new: Payload) -> Payload:
    """What the change put there: only these references need their rows looked for."""
    return {key: value for key, value in new.items() if old.get(key) != value}

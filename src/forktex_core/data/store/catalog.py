# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Definitions in the database: reading them, and changing them without a lost update.

A change reads the definition, makes the next one (pure, `definition.py`) and writes it on condition
that the version is still the one read. It holds the register's fence exclusively for that moment:
writers that hold the old definition have ended before, those that come after see the new one.
Waiting for the fence is bounded, so that a long transaction of one writer never queues up others.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.data.definition import RegisterDefinition
from forktex_core.data.errors import (
    DefinitionConflictError,
    DefinitionError,
    LimitError,
    Problem,
    UnknownRegisterError,
)
from forktex_core.data.store.data_store import DataStore

Change = Callable[[RegisterDefinition], RegisterDefinition]
_ATTEMPTS = 40


class Catalog:
    """The definitions of one store."""

    def __init__(self, store: DataStore) -> None:
        self._store = store
        self._register = store.table("register")

    async def get(self, session: AsyncSession | None, tenant: str, name: str) -> RegisterDefinition:
        """The definition as this process knows it, else as the database has it."""
        known: RegisterDefinition | None = self._store.known.get((tenant, name))
        return known or await self.read(session, tenant, name)

    async def read(
        self, session: AsyncSession | None, tenant: str, name: str
    ) -> RegisterDefinition:
        """The definition as the database has it; raises `UnknownRegisterError`."""
        async with self._store.connection(session, tenant) as connection:
            found = await self._fetch(connection, "tenant = $1 AND name = $2", tenant, name)
        if not found:
            self._store.known.pop((tenant, name), None)
            raise UnknownRegisterError(name)
        if session is None:  # what an open transaction sees may never be committed
            self._store.remember((tenant, name), found[0])
        return found[0]

    async def all(self, session: AsyncSession | None, tenant: str) -> list[RegisterDefinition]:
        """Every register of a tenant, by name."""
        async with self._store.connection(session, tenant) as connection:
            return await self._fetch(connection, "tenant = $1 ORDER BY name", tenant)

    async def _fetch(self, connection: Any, where: str, *args: Any) -> list[RegisterDefinition]:
        rows = await connection.fetch(
            f"SELECT id, tenant, name, version, own_table, definition::text FROM {self._register} "  # noqa: S608 - names are quoted, values are arguments
            f"WHERE dropped_at IS NULL AND {where}",
            *args,
        )
        return [
            RegisterDefinition.from_json(
                json.loads(row["definition"]),
                id=row["id"],
                tenant=row["tenant"],
                name=row["name"],
                version=row["version"],
                table=row["own_table"],
            )
            for row in rows
        ]

    async def create(
        self, session: AsyncSession | None, made: RegisterDefinition, by: str | None
    ) -> RegisterDefinition:
        """Insert a new register; raises `DefinitionError` when the name is taken."""
        text = json.dumps(made.to_json())
        async with self._store.transaction(session, made.tenant) as connection:
            count = (
                f"SELECT count(*) FROM {self._register} WHERE tenant = $1 AND dropped_at IS NULL"  # noqa: S608 - quoted
            )
            most = self._store.limits.registers_per_tenant
            if await connection.fetchval(count, made.tenant) >= most:
                raise LimitError(made.name, f"a tenant has at most {most} registers")
            try:
                async with connection.transaction():
                    insert = f"INSERT INTO {self._register} (tenant, name, definition) VALUES ($1, $2, $3) RETURNING id"  # noqa: E501, S608 - quoted
                    made_id = await connection.fetchval(insert, made.tenant, made.name, text)
            except asyncpg.UniqueViolationError as exc:
                message = f"there is a register {made.name!r} already; load it"
                raise DefinitionError([Problem(made.name, "exists", message)]) from exc
            await self._keep_version(connection, made_id, 1, text, by)
        (found,) = await self._by_id(session, made.tenant, made_id)
        return found

    async def _by_id(
        self, session: AsyncSession | None, tenant: str, id: int
    ) -> list[RegisterDefinition]:
        async with self._store.connection(session, tenant) as connection:
            return await self._fetch(connection, "tenant = $1 AND id = $2", tenant, id)

    async def _keep_version(
        self, connection: Any, id: int, version: int, text: str, by: str | None
    ) -> None:
        versions = self._store.table("register_version")
        await connection.execute(
            f"INSERT INTO {versions} (register_id, version, definition, changed_by) "  # noqa: S608 - quoted
            "VALUES ($1, $2, $3, $4)",
            id,
            version,
            text,
            by,
        )

    async def change(
        self,
        session: AsyncSession | None,
        tenant: str,
        name: str,
        change: Change,
        *,
        by: str | None = None,
        expected: int | None = None,
    ) -> RegisterDefinition:
        """Apply `change` to the newest definition and write what it makes.

        Raises `DefinitionConflictError` when `expected` is given and is not the version any more,
        or when the register's writers never let go of it.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with self._store.transaction(session, tenant) as connection:
                    made = await self._change(connection, (tenant, name), change, by, expected)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(random.uniform(0.01, 0.02) * min(attempt + 1, 20))  # noqa: S311 - no secret
                continue
            self._store.known.pop((tenant, name), None)
            return made
        raise DefinitionConflictError(name)

    async def _change(
        self,
        connection: Any,
        key: tuple[str, str],
        change: Change,
        by: str | None,
        expected: int | None,
    ) -> RegisterDefinition:
        await connection.execute("SET LOCAL lock_timeout = '20ms'")
        found = await self._fetch(connection, "tenant = $1 AND name = $2 FOR UPDATE", *key)
        if not found:
            raise UnknownRegisterError(key[1])
        old = found[0]
        if expected is not None and old.version != expected:
            raise DefinitionConflictError(old.name)
        made = change(old)
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", self._store.schema, old.id
        )
        text = json.dumps(made.to_json())
        await connection.execute(
            f"UPDATE {self._register} SET version = $2, definition = $3, own_table = $4, "  # noqa: S608 - quoted
            "name = $5, updated_at = clock_timestamp() WHERE id = $1",
            old.id,
            made.version,
            text,
            made.table,
            made.name,
        )
        await self._keep_version(connection, old.id, made.version, text, by)
        await connection.execute("SET LOCAL lock_timeout = 0")
        return made

    async def drop(self, session: AsyncSession | None, tenant: str, name: str) -> None:
        """Drop a register: its name is free at once, its rows are deleted by the chores."""
        async with self._store.transaction(session, tenant) as connection:
            found = await connection.fetchval(
                f"UPDATE {self._register} SET dropped_at = clock_timestamp(), "  # noqa: S608 - quoted
                "version = version + 1 "
                "WHERE tenant = $1 AND name = $2 AND dropped_at IS NULL RETURNING id",
                tenant,
                name,
            )
        if found is None:
            raise UnknownRegisterError(name)
        self._store.known.pop((tenant, name), None)

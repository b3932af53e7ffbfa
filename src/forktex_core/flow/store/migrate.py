# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Brings a flow schema to the newest version.

Each migration is one transaction under a transaction-level advisory lock, so any number of
processes may migrate at once, also through a transaction pooler: one does the work, the others find
it done.
"""

from typing import Any

from forktex_core.flow.errors import NoSchemaError, SchemaTooNewError, SchemaTooOldError
from forktex_core.flow.store.sql import migrations, quote_identifier


async def migrate(connection: Any, schema: str) -> list[str]:
    """Apply what is missing over an asyncpg ``connection``; return the names of the migrations
    applied.

    Raises SchemaTooNewError when the database was migrated by a newer release than this one.
    """
    known = migrations(schema)
    if await _version(connection, schema) == known[-1].number:
        return []
    applied = []
    for migration in known:
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"forktex_flow:{schema}"
            )
            await _create_ledger(connection, schema)
            if await _version(connection, schema) >= migration.number:
                continue
            await connection.execute(migration.sql)
            await connection.execute(
                f"INSERT INTO {quote_identifier(schema)}.migration (number, name) VALUES ($1, $2)",  # noqa: S608 - quoted identifier
                migration.number,
                migration.name,
            )
            applied.append(migration.name)
    found = await _version(connection, schema)
    if found > known[-1].number:
        raise SchemaTooNewError(schema, found, known[-1].number)
    return applied


async def check(connection: Any, schema: str, address: str) -> None:
    """Change nothing; raise NoSchemaError, SchemaTooOldError or SchemaTooNewError when the schema
    is not of this release.
    """
    found, known = await _version(connection, schema), migrations(schema)[-1].number
    if found == 0:
        raise NoSchemaError(schema, address)
    if found < known:
        raise SchemaTooOldError(schema, found, known)
    if found > known:
        raise SchemaTooNewError(schema, found, known)


async def _create_ledger(connection: Any, schema: str) -> None:
    quoted = quote_identifier(schema)
    if await _version(connection, schema) == 0:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted}.migration (number integer PRIMARY KEY, name "
            "text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )


async def _version(connection: Any, schema: str) -> int:
    ledger = f"{quote_identifier(schema)}.migration"
    if await connection.fetchval("SELECT to_regclass($1)", ledger) is None:
        return 0
    return await connection.fetchval(f"SELECT coalesce(max(number), 0) FROM {ledger}") or 0  # noqa: S608 - quoted identifier

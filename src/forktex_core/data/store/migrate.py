# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Brings a data schema to the newest version.

Each migration is one transaction under a transaction-level advisory lock, so any number of
processes may migrate at once: one does the work, the others find it done.
"""

import re
from importlib import resources
from typing import Any

from forktex_core.data.errors import ConfigurationError

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def migrate(connection: Any, schema: str) -> list[str]:
    """Apply what is missing over an asyncpg `connection`; return the names of what was applied.

    Raises `ConfigurationError` when a newer release has migrated the schema.
    """
    steps = _steps()
    applied = []
    for number, name, sql in steps:
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"forktex_data:{schema}"
            )
            found = await _version(connection, schema)
            if found > steps[-1][0]:
                raise ConfigurationError(
                    f"the schema {schema!r} is at version {found}, made by a newer release than "
                    "this one; upgrade forktex-core"
                )
            if found >= number:
                continue
            if found == 0:
                await _create_ledger(connection, schema)
            text = sql.replace("{schema}", quote(schema))
            await connection.execute(text.replace("{schema_name}", schema.replace("'", "''")))
            insert = f"INSERT INTO {quote(schema)}.migration (number, name) VALUES ($1, $2)"  # noqa: S608 - quoted
            await connection.execute(insert, number, name)
            applied.append(name)
    return applied


def _steps() -> list[tuple[int, str, str]]:
    files = (resources.files(__package__) / "migrations").iterdir()
    named = [(match, file) for file in files if (match := _FILE.fullmatch(file.name))]
    return sorted(
        (int(match[1]), match[2], file.read_text(encoding="utf-8")) for match, file in named
    )


async def _version(connection: Any, schema: str) -> int:
    ledger = f"{quote(schema)}.migration"
    if await connection.fetchval("SELECT to_regclass($1)", ledger) is None:
        return 0
    newest = await connection.fetchval(f"SELECT max(number) FROM {ledger}")  # noqa: S608 - quoted
    return int(newest or 0)


async def _create_ledger(connection: Any, schema: str) -> None:
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {quote(schema)}.migration (number integer PRIMARY KEY, "
        "name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )

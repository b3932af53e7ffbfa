# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The consumer's Alembic environment: what `alembic init -t async` makes, as docs/db.md has it."""

import asyncio

import models  # noqa: F401 - to have them in the metadata
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

from forktex_core.db import BaseDBModel

OWN_SCHEMAS = {None}  # None is the default schema


def own(name: str | None, kind: str, _parents: object) -> bool:
    """Only this service's schemas: needed with include_schemas alone."""
    return kind != "schema" or name in OWN_SCHEMAS


def migrate(connection):
    context.configure(
        connection=connection,
        target_metadata=BaseDBModel.metadata,
        compare_server_default=True,
        include_schemas=context.config.get_main_option("include_schemas") == "yes",
        include_name=own,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run():
    url = context.config.get_main_option("sqlalchemy.url")
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(run())

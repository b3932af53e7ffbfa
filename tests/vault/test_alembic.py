# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Alembic: autogenerate writes our types, the migration runs, and no difference is left."""

import sqlalchemy as sa
from alembic.autogenerate import api
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.ext.asyncio import create_async_engine

import forktex_core.vault
from tests.vault.models import Base


def migrate(connection: sa.Connection) -> list[object]:
    """Autogenerate, run what was written, compare again."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    script = api.produce_migrations(context, Base.metadata)
    written = api.render_python_code(script.upgrade_ops, migration_context=context)
    assert "forktex_core.vault.EncryptedJSON(None)" in written
    assert "forktex_core.vault.BlindIndex(None)" in written
    body = "def upgrade():\n    " + written
    names = {"op": Operations(context), "sa": sa, "forktex_core": forktex_core}
    names["postgresql"] = sa.dialects.postgresql
    exec(body, names)
    names["upgrade"]()
    return api.compare_metadata(context, Base.metadata)


async def test_autogenerate_renders_and_runs(database) -> None:
    """As `alembic revision --autogenerate`, `upgrade` and `check` would do."""
    engine = create_async_engine(database.url)
    async with engine.begin() as connection:
        assert await connection.run_sync(migrate) == []
    await engine.dispose()

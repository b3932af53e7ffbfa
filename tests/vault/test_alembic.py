# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Alembic: autogenerate writes our types, the migration runs, and no difference is left."""

import asyncio
import io
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import api
from alembic.config import Config
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


ENV = """
import asyncio
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from tests.vault.models import Base

def run(connection):
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""


def revise(folder: Path, url: str) -> str:
    """Do what `alembic init`, `revision --autogenerate`, `upgrade head` and `check` do."""
    config = Config(folder / "alembic.ini", stdout=io.StringIO())
    command.init(config, str(folder / "scripts"))
    config.set_main_option("script_location", str(folder / "scripts"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    (folder / "scripts" / "env.py").write_text(ENV)
    template = folder / "scripts" / "script.py.mako"
    template.write_text("import forktex_core.vault\n" + template.read_text())
    command.revision(config, "first", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)  # Raises when there is a difference.
    (written,) = (folder / "scripts" / "versions").glob("*.py")
    return written.read_text()


async def test_alembics_own_commands(database, tmp_path: Path) -> None:
    """A project with our types, from nothing to `alembic check`; its template has the import."""
    written = await asyncio.to_thread(revise, tmp_path, database.url)
    for name in ("EncryptedJSON", "EncryptedText", "EncryptedBytes", "BlindIndex"):
        assert f"forktex_core.vault.{name}(None)" in written


async def test_autogenerate_renders_and_runs(database) -> None:
    """As `alembic revision --autogenerate`, `upgrade` and `check` would do."""
    engine = create_async_engine(database.url)
    async with engine.begin() as connection:
        assert await connection.run_sync(migrate) == []
    await engine.dispose()

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Alembic in a service's own project: it finds the service's tables, and none of the library's."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from forktex_core.db import BaseDBModel
from forktex_core.flow import Flow
from forktex_core.queue import Queue
from tests.conftest import Database as Server

CONSUMER = Path(__file__).parent / "consumer"
TABLES = {"organisation", "member", "invoice"}
type Alembic = Callable[..., str]


@pytest.fixture(params=["no", "yes"], ids=["default-schema", "include_schemas"])
async def alembic(request: pytest.FixtureRequest, tmp_path: Path, database: Server) -> Alembic:
    """The command in a project of its own, on a database in which the library is at work."""
    async with Flow(database_url=database.url):
        pass
    engine = create_async_engine(database.url)
    await Queue("redis://localhost:1", outbox=engine).create_outbox()
    await engine.dispose()
    project = shutil.copytree(CONSUMER, tmp_path / "consumer")
    (project / "migrations/versions").mkdir()
    (project / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = %(here)s\n"
        f"path_separator = os\nsqlalchemy.url = {database.url}\ninclude_schemas = {request.param}\n"
    )

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    return run


def revisions(tmp_path: Path) -> list[str]:
    return [path.read_text() for path in (tmp_path / "consumer/migrations/versions").glob("*.py")]


async def tables(database: Server) -> set[str]:
    """All tables but PostgreSQL's own, as schema.table."""
    connection = await asyncpg.connect(database.dsn)
    try:
        found = await connection.fetch(
            "SELECT schemaname || '.' || tablename AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
    finally:
        await connection.close()
    return {row["name"] for row in found}


async def test_autogenerate_finds_the_services_tables_only(
    alembic: Alembic, database: Server, tmp_path: Path
) -> None:
    """A first revision makes the service's three tables; a second finds nothing; both ways work."""
    before = await tables(database)
    assert {"forktex_flow.run", "forktex_queue.outbox"} < before
    alembic("revision", "--autogenerate", "-m", "first")
    [revision] = revisions(tmp_path)
    assert set(re.findall(r"create_table\(\s*'(\w+)'", revision)) == TABLES
    assert "forktex_" not in revision
    upgrade, _, downgrade = revision.partition("def downgrade")
    assert "drop_" not in upgrade
    assert set(re.findall(r"drop_table\(\s*'(\w+)'", downgrade)) == TABLES
    alembic("upgrade", "head")
    own = {f"public.{name}" for name in (*TABLES, "alembic_version")}
    assert await tables(database) == before | own
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    assert await tables(database) == before | {"public.alembic_version"}


async def test_a_change_is_found_and_nothing_beside_it(alembic: Alembic, tmp_path: Path) -> None:
    """Stable names: after a constraint and a column are dropped, the diff is those two."""
    alembic("revision", "--autogenerate", "-m", "first")
    alembic("upgrade", "head")
    models = tmp_path / "consumer/models.py"
    changed = models.read_text().replace('        UniqueConstraint("org_id", "number"),\n', "")
    models.write_text(
        changed.replace("    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))\n", "")
    )
    said = alembic("check", code=255)
    assert "New upgrade operations detected" in said
    assert re.findall(r"'(remove_\w+|add_\w+|modify_\w+)'", said) == [
        "remove_constraint",
        "remove_column",
    ]
    alembic("revision", "--autogenerate", "-m", "second")
    second = next(text for text in revisions(tmp_path) if "second" in text)
    assert "uq_invoice_org_id_number" in second
    alembic("upgrade", "head")
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")


def test_the_librarys_tables_are_in_metadata_of_their_own() -> None:
    """After importing all of the library, the base's metadata holds only what tests put there."""
    code = (
        "import pkgutil, importlib, warnings, forktex_core\n"
        "warnings.simplefilter('ignore')\n"
        "for module in pkgutil.walk_packages(forktex_core.__path__, 'forktex_core.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "from forktex_core.db import BaseDBModel\n"
        "print(sorted(BaseDBModel.metadata.tables))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    assert BaseDBModel.metadata.schema is None

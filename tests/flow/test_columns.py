# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Columns of extensions on tables in use: added while others write, taken up after a crash."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from forktex_core.flow import Column, DefinitionError, Flow
from forktex_core.flow.store import columns as migration
from tests.waiting import eventually

_NEW_RUN = (
    "INSERT INTO run (id, workflow, version, lane, queue, priority, status, due_at) "
    "SELECT gen_random_uuid(), 'w', 1, 'l', 'q', 0, 'pending', now() FROM generate_series(1, $1)"
)


class Team:
    """An extension with one column."""

    def __init__(self, kind: type = str, **options: Any) -> None:
        self._column = Column("team", kind, **options)

    def columns(self) -> list[Column]:
        return [self._column]


def extended(postgres: Any, schema: str, *extensions: Any, **options: Any) -> Flow:
    return Flow(postgres.url, schema=schema, extensions=extensions or [Team()], **options)


async def index_is_valid(sql: asyncpg.Connection, index: str = "run_by_team") -> bool | None:
    return await sql.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", index
    )


@asynccontextmanager
async def writing(postgres: Any, schema: str) -> AsyncIterator[list[int]]:
    """Somebody who writes all the time, and fails when a lock keeps him waiting for a second."""
    written: list[int] = []
    connection = await asyncpg.connect(
        postgres.dsn, server_settings={"search_path": schema, "lock_timeout": "1000ms"}
    )

    async def write() -> None:
        while True:
            await connection.execute(_NEW_RUN, 1)
            written.append(1)

    task = asyncio.create_task(write())
    try:
        yield written
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def test_added_to_a_full_table_while_others_write(postgres, schema, sql) -> None:
    """With 50,000 runs there, a writer beside and a long transaction in the way: writers go on all
    the time; when the transaction has ended, column, default and valid indexes are there.
    """
    async with Flow(postgres.url, schema=schema):
        await sql.execute(_NEW_RUN, 50_000)
    long = await asyncpg.connect(postgres.dsn, server_settings={"search_path": schema})
    transaction = long.transaction()
    await transaction.start()
    await long.execute("UPDATE run SET due_at = now() WHERE id IN (SELECT id FROM run LIMIT 1)")
    flow = extended(postgres, schema, Team(default="old'ones"))
    async with writing(postgres, schema) as written:
        opening = asyncio.create_task(flow.open())
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forktex-flow migrate'"
            " AND query LIKE 'ALTER TABLE%' AND wait_event_type = 'Lock'"
        )
        await eventually(lambda: sql.fetchval(waits))
        before = len(written)
        await eventually(lambda: len(written) > before + 50)
        assert not opening.done()
        await transaction.rollback()
        await opening
        before = len(written)
        await eventually(lambda: len(written) > before + 50)
    await long.close()
    await flow.close()
    assert await index_is_valid(sql)
    assert await index_is_valid(sql, "schedule_by_team")
    assert await sql.fetchval("SELECT count(*) FROM run WHERE team = 'old''ones'") > 50_000
    await sql.execute("ANALYZE run")
    plan = await sql.fetch("EXPLAIN SELECT 1 FROM run WHERE team = 'rare' ORDER BY id LIMIT 1")
    assert "run_by_team" in "".join(row[0] for row in plan)


async def test_a_killed_build_is_taken_up(postgres, schema, sql) -> None:
    """A build whose connection was killed leaves an invalid index: the next open() drops it and
    builds it again.
    """
    async with Flow(postgres.url, schema=schema):
        await sql.execute(_NEW_RUN, 100)
    old = await asyncpg.connect(postgres.dsn)
    transaction = old.transaction(isolation="repeatable_read")
    await transaction.start()
    await old.fetchval("SELECT 1")  # a snapshot, which a concurrent build waits for
    opening = asyncio.create_task(extended(postgres, schema).open())
    building = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'virtualxid'"
        " AND query LIKE 'CREATE INDEX CONCURRENTLY%' || $1 || '%'"
    )
    await eventually(lambda: sql.fetchval(building, schema))
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)):
        await opening
    assert await index_is_valid(sql) is False
    await transaction.rollback()
    await old.close()
    async with extended(postgres, schema):
        assert await index_is_valid(sql)


async def test_a_crash_at_any_statement_is_taken_up(postgres, schema, sql, monkeypatch) -> None:
    """Whichever statement the process dies at: the next open() finishes the work, and one after
    that has nothing to do.
    """

    class DiedError(BaseException):
        pass

    done: list[str] = []
    fatal = 0
    execute = migration._Columns._execute

    async def dying(self, name: str, *args: Any, **names: str) -> None:
        if len(done) == fatal:
            raise DiedError
        done.append(name)
        await execute(self, name, *args, **names)

    monkeypatch.setattr(migration._Columns, "_execute", dying)
    for statement in range(50):
        done.clear()
        fatal, here = statement, f"{schema}_{statement}"
        flow = extended(postgres, here, Team(isolates=True))
        with contextlib.suppress(DiedError):
            await flow.open()
        died, fatal = flow._opened is None, 99
        await flow.close()
        async with extended(postgres, here, Team(isolates=True)):
            for index in ("run_by_team", "schedule_by_team"):
                assert await index_is_valid(sql, f'"{here}".{index}')
            inherits = "tgname = 'run_inherits' AND tgrelid = to_regclass($1)"
            query = f"SELECT count(*) FROM pg_trigger WHERE {inherits}"
            assert await sql.fetchval(query, f'"{here}".run') == 1
        done.clear()
        async with extended(postgres, here, Team(isolates=True)):
            assert done == []
        await sql.execute(f'DROP SCHEMA "{here}" CASCADE')
        if not died:
            break
    assert statement == 8


async def test_many_processes_open_at_once(postgres, schema, sql) -> None:
    """They take turns; all open, and the columns of all of them are there."""

    class Other:
        def columns(self) -> list[Column]:
            return [Column("region")]

    flows = [
        extended(postgres, schema, *([Team()] if n % 2 else [Team(), Other()])) for n in range(4)
    ]
    await asyncio.gather(*(flow.open() for flow in flows))
    for flow in flows:
        await flow.close()
    assert await index_is_valid(sql)
    assert await index_is_valid(sql, "run_by_region")
    body = await sql.fetchval("SELECT prosrc FROM pg_proc WHERE oid = 'inherit_columns'::regproc")
    assert "region" in body
    assert "team" in body


async def test_columns_that_do_not_fit(postgres, schema) -> None:
    """Another type than the tables have, and a pooler in between, are refused with the mend."""
    async with extended(postgres, schema, pooled=False):
        pass
    with pytest.raises(DefinitionError, match=r"'team' is text .* not bigint"):
        await extended(postgres, schema, Team(int)).open()
    async with extended(postgres, schema, pooled=True):  # nothing is to be done: fine
        pass
    with pytest.raises(DefinitionError, match="direct_url"):
        await extended(postgres, schema, Team(index=False, isolates=True), pooled=True).open()

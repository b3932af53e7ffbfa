# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The second wall: what the role of a service's requests can do with SQL of its own."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from forktex_core.flow import DefinitionError, Flow, TenantExtension, install_row_security
from tests.conftest import Database, execute
from tests.flow.tenancy import User, World, a_world, drop_role, make_role, statements
from tests.waiting import eventually


@pytest.fixture
async def world(postgres, schema) -> AsyncIterator[World]:
    """A furnished victim behind both walls."""
    async with a_world(postgres, schema, "both") as made:
        yield made


@pytest.fixture
async def bare(world: World, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the restricted role."""
    connection = await asyncpg.connect(world.clients._dsn, server_settings={"search_path": schema})
    yield connection
    await connection.close()


async def as_tenant(connection: asyncpg.Connection, org: UUID | str) -> None:
    await connection.execute("SELECT set_config('forktex_flow.org_id', $1, false)", str(org))


async def tables(sql: asyncpg.Connection, schema: str) -> list[str]:
    """Tables and views."""
    rows = await sql.fetch(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = $1 UNION ALL"
        " SELECT viewname FROM pg_views WHERE schemaname = $1", schema,
    )  # fmt: skip
    return sorted(row["name"] for row in rows)


async def count(connection: asyncpg.Connection, table: str) -> int:
    """Rows that can be read, 0 where nothing can."""
    try:
        return await connection.fetchval(f"SELECT count(*) FROM (SELECT 1 FROM {table}) x")
    except asyncpg.InsufficientPrivilegeError:
        return 0


async def test_without_a_tenant_there_is_nothing(world: World, bare, sql, schema: str) -> None:
    """No setting, an empty one, one of nobody: no table shows a row, save the numbers of migrations
    and the names of columns. Row-level security is on for every table of the schema.
    """
    for setting in (None, "", str(uuid4())):
        if setting is not None:
            await as_tenant(bare, setting)
        shared = {"migration", "extension_column"} | (
            {"definition", "worker", "leader", "queue"} if setting else set()
        )
        for table in await tables(sql, schema):
            assert await count(sql, table) >= 0
            assert (await count(bare, table) == 0) or table in shared, (setting, table)
    off = await sql.fetch(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND relkind IN ('r', 'p') AND NOT relrowsecurity", schema,
    )  # fmt: skip
    assert off == []


async def test_a_tenant_has_its_own_and_nothing_else(world: World, bare, sql) -> None:
    """What the role reads for a tenant is exactly what belongs to it; another's rows can't be
    written, moved, or referred to.
    """
    victim, attacker = world.victim.org_id, world.attacker.org_id
    await as_tenant(bare, victim)
    for table in ("run", "journal", "signal", "published", "schedule", "graph", "graph_version"):
        by = "id" if table == "run" else "run_id"
        expected = (
            f"SELECT count(*) FROM {table} WHERE {by} IN (SELECT id FROM run WHERE org_id = $1)"
            if table in ("run", "journal", "signal", "published")
            else f"SELECT count(*) FROM {table} x WHERE to_jsonb(x)::text LIKE '%{victim}%'"
            " AND $1::uuid IS NOT NULL"
        )
        assert await count(bare, table) == await sql.fetchval(expected, victim), table
    await as_tenant(bare, attacker)
    run = world.runs["waiting"]
    assert await bare.execute("UPDATE run SET status = 'cancelled'") == "UPDATE 0"
    assert (
        await bare.fetchval("SELECT outcome FROM send_signal($1, 'go', '1', NULL)", run)
        == "unknown"
    )
    assert await bare.fetchval("SELECT outcome FROM pause_run($1, NULL)", run) == "unknown"
    assert (
        await bare.fetch("SELECT * FROM put_signals(ARRAY[$1::uuid], ARRAY['go'], ARRAY['1'])", run)
        == []
    )
    values = "gen_random_uuid(), 'w', 1, 'l', 'q', 0, 'pending', now()"
    columns = "id, workflow, version, lane, queue, priority, status, due_at, org_id"
    for refused in (
        f"INSERT INTO run ({columns}) VALUES ({values}, '{victim}')",
        f"INSERT INTO run ({columns}) VALUES ({values}, NULL)",
        f"INSERT INTO signal (run_id, no, name) VALUES ('{run}', 99, 'go')",
        "DELETE FROM run",
        "TRUNCATE run",
        "UPDATE worker SET ended_at = now()",
        "SELECT * FROM retention",
        "UPDATE leader SET term = 0",
        "ALTER TABLE run DISABLE ROW LEVEL SECURITY",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await bare.execute(refused)
    mine = await world.mine.start("wait")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await bare.execute("UPDATE run SET org_id = $1 WHERE id = $2", victim, mine)


async def test_a_setting_ends_with_its_call(world: World) -> None:
    """A pooled connection keeps nothing of the tenant that used it last."""
    await world.mine.start("wait")
    await world.theirs.published(world.runs["waiting"], "secret")
    async with world.clients._trusted.pool.connection() as connection:
        left = await connection.fetchval("SELECT current_setting('forktex_flow.org_id', true)")
    assert not left


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that goes out, explicit transactions among them."""
    sent: list[str] = []
    query = asyncpg.connection.Connection._execute

    async def seen(self, text, *args, **kwargs):
        sent.append(text)
        return await query(self, text, *args, **kwargs)

    execute = asyncpg.connection.Connection.execute

    async def seen_too(self, text, *args, **kwargs):
        sent.append(text)
        return await execute(self, text, *args, **kwargs)

    monkeypatch.setattr(asyncpg.connection.Connection, "_execute", seen)
    monkeypatch.setattr(asyncpg.connection.Connection, "execute", seen_too)
    return sent


@pytest.mark.parametrize("walls", ["first", "both"])
async def test_a_start_is_still_one_statement(postgres, schema, wire, walls: str, sql) -> None:
    """With the extension, and with row-level security as well: one statement, no transaction around
    it; so is a start of many. The row has its tenant.
    """
    async with a_world(postgres, schema, walls) as world:
        acting = world.mine
        for start in (
            lambda: acting.start("double", 1, queue="later"),
            lambda: acting.start_many("double", [1] * 50, queue="later"),
        ):
            await eventually(lambda: world.clients._trusted.notifier._sending is None)
            wire.clear()
            await start()
            besides = ("tick", "do_chores", "pg_notify", "claim_runs", "outcomes", "SELECT 1")
            asked = [text for text in wire if not any(word in text for word in besides)]
            asked = [text for text in asked if "lease" not in text]
            assert len(asked) == 1, asked
            assert "INSERT INTO" in asked[0]
        owners = await sql.fetch("SELECT DISTINCT org_id FROM run WHERE queue = 'later'")
        assert [row["org_id"] for row in owners] == [world.attacker.org_id]


async def test_roles_that_are_not_fit(postgres: Database, schema: str) -> None:
    """A role that policies wouldn't hold for, a worker that would see nothing, one that is not
    there, tables without tenants: refused, and nothing is changed.
    """
    role, _ = await make_role(postgres)
    try:
        async with Flow(postgres.url, schema=schema):
            with pytest.raises(DefinitionError, match="no column org_id"):
                await install_row_security(postgres.url, role=role, schema=schema)
        async with Flow(postgres.url, schema=schema, extensions=[TenantExtension()]):
            for wrong, match in (
                ({"role": "nobody_at_all"}, "CREATE ROLE"),
                ({"role": "postgres"}, "plain role"),
                ({"role": role, "worker": role}, "BYPASSRLS"),
            ):
                with pytest.raises(DefinitionError, match=match):
                    await install_row_security(postgres.url, schema=schema, **wrong)
    finally:
        await drop_role(postgres, role)


async def test_workers_on_a_role_of_their_own(postgres: Database, schema: str, sql) -> None:
    """With a worker's role that bypasses row-level security, the policies are forced upon the
    owner, and runs are still executed. Installing it again changes nothing.
    """
    client, client_address = await make_role(postgres)
    worker, worker_address = await make_role(postgres)
    await execute(postgres, f"ALTER ROLE {worker} BYPASSRLS")
    user = User(uuid4())
    try:
        async with Flow(postgres.url, schema=schema, extensions=[TenantExtension()]):
            for _ in range(2):
                await install_row_security(postgres.url, role=client, worker=worker, schema=schema)
        forced = await sql.fetchval(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE oid = 'run'::regclass"
        )
        assert forced
        service = Flow(worker_address.url, schema=schema, extensions=[TenantExtension()])
        clients = Flow(
            client_address.url, schema=schema, extensions=[TenantExtension(row_security=True)]
        )

        @service.workflow(name="double")
        async def double(ctx, number: int) -> int:
            return 2 * number

        clients._registry.add(double)
        async with service, clients:
            import asyncio

            task = asyncio.create_task(service.run_worker())
            assert await clients.as_(user).run("double", 4, timeout=10) == 8
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        for role in (client, worker):
            await drop_role(postgres, role)


async def test_a_client_of_a_plain_role_can_not_add_columns(
    postgres: Database, schema: str
) -> None:
    """It is told who has to open the Flow first."""
    role, address = await make_role(postgres)
    try:
        async with Flow(postgres.url, schema=schema):
            await execute(postgres, f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
            await execute(postgres, f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {role}')
            flow = Flow(address.url, schema=schema, extensions=[TenantExtension()])
            with pytest.raises(DefinitionError, match="as the owner of the tables"):
                await flow.open()
    finally:
        await drop_role(postgres, role)


async def test_results_of_many_tenants_at_once(world: World) -> None:
    """Waiting for the ends of runs of several tenants in one process: each gets its own, by one
    statement for each tenant and not for each waiter.
    """
    import asyncio

    runs = [(f, await f.start("double", n)) for n in range(6) for f in (world.mine, world.theirs)]
    with statements() as sent:
        found = await asyncio.gather(*(f.result(run, timeout=10) for f, run in runs))
    assert found == [2 * n for n in range(6) for _ in range(2)]
    assert sent.count("run_view") == 12

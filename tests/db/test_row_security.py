# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Row-level security: what the server itself shows and takes, past every filter of the session."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import BigInteger, ForeignKey, MetaData, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from forktex_core.db import (
    BaseDBModel,
    ConfigurationError,
    OrgScopedMixin,
    close_engine,
    drop_row_security_ddl,
    get_engine,
    get_session,
    init_engine,
    org_scope,
    row_security_ddl,
    unscoped,
)
from tests.conftest import Database as Server
from tests.conftest import execute

A, B = UUID(int=0xA), UUID(int=0xB)


class Walled(BaseDBModel):
    __abstract__ = True
    metadata = MetaData()


class Letter(OrgScopedMixin, Walled):
    __tablename__ = "walled_letter"
    body: Mapped[str]


class Odd(OrgScopedMixin, Walled):
    """A name that must be quoted, and an id that is no UUID."""

    __tablename__ = 'walled "Odd" table'
    __org_type__ = BigInteger()


class Attachment(Letter):
    """A subclass whose own table has no org_id."""

    __tablename__ = "walled_attachment"
    id: Mapped[UUID] = mapped_column(ForeignKey(Letter.id), primary_key=True)


class Shared(Walled):
    __tablename__ = "walled_shared"


@dataclass
class Wall:
    """A database, its superuser's address, and roles that are no superusers."""

    owner: Server
    service: Server
    chores: Server
    roles: list[str] = field(default_factory=list)


def signed_in(server: Server, role: str) -> Server:
    parts = urlsplit(server.dsn)
    return Server(urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.split('@')[-1]}")))


@pytest.fixture
async def wall(database: Server) -> AsyncIterator[Wall]:
    """A table that the service's own role owns, under the policies, with one row of A and B."""
    service, chores = (f"test_{kind}_{secrets.token_hex(4)}" for kind in ("service", "chores"))
    for role in (service, chores):
        await execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'secret' NOSUPERUSER")
        await execute(database, f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    made = Wall(database, signed_in(database, service), signed_in(database, chores))
    await execute(
        made.service, str(CreateTable(Letter.__table__).compile(dialect=postgresql.dialect()))
    )
    await execute(made.service, f"GRANT ALL ON walled_letter TO {chores}")
    for statement in row_security_ddl(Letter, every_org_role=chores):
        await execute(made.service, statement)
    for org, body in ((A, "a"), (B, "b")):
        values = f"('{org}', gen_random_uuid(), '{body}')"
        await execute(database, f"INSERT INTO walled_letter (org_id, id, body) VALUES {values}")
    yield made
    await close_engine()
    for role in (service, chores):
        await execute(database, f"DROP OWNED BY {role} CASCADE")
        await execute(database, f"DROP ROLE {role}")


BODIES = text("SELECT body FROM walled_letter ORDER BY 1").execution_options(org_filtered=True)


async def read(server: Server) -> list[str]:
    """What a connection that nobody has told an organisation sees."""
    connection = await asyncpg.connect(server.dsn)
    try:
        rows = await connection.fetch("SELECT body FROM walled_letter ORDER BY 1")
        return [row["body"] for row in rows]
    finally:
        await connection.close()


async def left_behind(setting: str = "forktex.org_id") -> tuple[int, str | None, int]:
    """The next user of the pooled connection: its backend, the setting, the rows it sees."""
    async with get_engine().connect() as connection:
        query = "SELECT pg_backend_pid(), nullif(current_setting(:name, true), ''), count(*) "
        query += "FROM walled_letter"
        row = (await connection.execute(text(query), {"name": setting})).one()
        return int(row[0]), row[1], int(row[2])


async def test_the_owner_is_behind_the_wall_too(wall: Wall) -> None:
    """Without an organisation the service's own role sees nothing, the superuser everything."""
    assert await read(wall.service) == []
    assert await read(wall.owner) == ["a", "b"]


async def test_raw_sql_sees_one_organisation(wall: Wall) -> None:
    """What goes past the session's filter meets the policy: text and the raw connection."""
    init_engine(wall.service.url, row_security=True)
    for org, expected in ((A, ["a"]), (B, ["b"])):
        with org_scope(org):
            async with get_session() as session:
                assert list(await session.scalars(BODIES)) == expected
                raw = await session.connection()
                assert list((await raw.execute(BODIES)).scalars()) == expected


async def test_raw_sql_cannot_write_for_another(wall: Wall) -> None:
    """Neither insert nor move: the server refuses the row; others' rows cannot be touched."""
    init_engine(wall.service.url, row_security=True)
    for statement in (
        f"INSERT INTO walled_letter (id, org_id, body) VALUES (gen_random_uuid(), '{B}', 'x')",
        f"UPDATE walled_letter SET org_id = '{B}'",
    ):
        with org_scope(A), pytest.raises(DBAPIError, match="row-level security"):
            async with get_session() as session:
                await (await session.connection()).execute(text(statement))
    with org_scope(A):
        async with get_session() as session:
            await (await session.connection()).execute(text("DELETE FROM walled_letter"))
    assert await read(wall.owner) == ["b"]


async def test_the_models_work_behind_the_wall(wall: Wall) -> None:
    """Flush, bulk insert, select and get, in one transaction after another."""
    init_engine(wall.service.url, row_security=True)
    with org_scope(A):
        async with get_session() as session:
            session.add(Letter(body="a2"))
            await session.commit()
            await session.execute(insert(Letter), [{"body": "a3"}])
            await session.commit()
            found = (await session.scalars(select(Letter.body).order_by(Letter.body))).all()
            assert found == ["a", "a2", "a3"]


async def test_nothing_stays_on_a_pooled_connection(wall: Wall) -> None:
    """The setting ends with the transaction, however that ends; the same backend shows it."""
    init_engine(wall.service.url, row_security=True, pool_size=1, max_overflow=0)
    with org_scope(A):
        async with get_session() as session:
            assert list(await session.scalars(BODIES)) == ["a"]
            backend = await session.scalar(text("SELECT pg_backend_pid()"))
    assert await left_behind() == (backend, None, 0)
    with org_scope(A), pytest.raises(KeyError):
        async with get_session() as session:
            assert list(await session.scalars(BODIES)) == ["a"]
            raise KeyError("undone")
    assert await left_behind() == (backend, None, 0)
    with org_scope(B):
        async with get_session() as session:
            assert list(await session.scalars(BODIES)) == ["b"]
    assert await left_behind() == (backend, None, 0)


async def test_tasks_that_share_one_connection_see_their_own(wall: Wall) -> None:
    """Many transactions of both organisations over one connection never see each other's."""
    init_engine(wall.service.url, row_security=True, pool_size=1, max_overflow=0)

    async def bodies(org: UUID) -> list[str]:
        with org_scope(org):
            async with get_session() as session:
                return list(await session.scalars(BODIES))

    seen = await asyncio.gather(*(bodies(org) for org in (A, B) * 10))
    assert seen == [["a"], ["b"]] * 10


async def test_a_session_that_learns_its_organisation_tells_the_server(wall: Wall) -> None:
    """Also in the middle of a transaction, and again after a savepoint that took it back."""
    init_engine(wall.service.url, row_security=True)
    async with get_session() as session:
        assert await session.scalar(text("SELECT 1")) == 1
        savepoint = await session.begin_nested()
        with org_scope(A):
            assert list(await session.scalars(BODIES)) == ["a"]
            await savepoint.rollback()
            assert list(await session.scalars(BODIES)) == ["a"]


async def test_a_flush_after_a_savepoint_tells_the_server_again(wall: Wall) -> None:
    """A row that is written after the roll-back of the savepoint is let through."""
    init_engine(wall.service.url, row_security=True)
    async with get_session() as session:
        await session.scalar(text("SELECT 1"))
        with org_scope(A):
            with pytest.raises(KeyError):
                async with session.begin_nested():
                    session.add(Letter(body="undone"))
                    await session.flush()
                    raise KeyError
            session.add(Letter(body="a2"))
    assert await read(wall.owner) == ["a", "a2", "b"]


async def test_behind_a_pooler_both_settings_are_made(wall: Wall) -> None:
    """`pooled` sends the time limit with the organisation, both for the transaction only."""
    init_engine(wall.service.url, row_security=True, pooled=True, statement_timeout=7, pool_size=1)
    with org_scope(A):
        async with get_session() as session:
            assert list(await session.scalars(BODIES)) == ["a"]
            shown = await session.scalar(text("SELECT current_setting('statement_timeout')"))
            assert shown == "7s"
    assert (await left_behind())[1:] == (None, 0)


async def test_unscoped_is_not_past_the_wall(wall: Wall) -> None:
    """It takes the role that was named for it."""
    init_engine(wall.service.url, row_security=True)
    init_engine(wall.chores.url, row_security=True, name="chores")
    with unscoped():
        async with get_session() as session:
            assert (await session.scalars(select(Letter.body))).all() == []
        async with get_session("chores") as session:
            assert sorted(await session.scalars(select(Letter.body))) == ["a", "b"]


async def test_an_engine_without_row_security_sees_nothing(wall: Wall) -> None:
    """Forgetting the option fails closed."""
    init_engine(wall.service.url)
    with org_scope(A):
        async with get_session() as session:
            assert (await session.scalars(select(Letter.body))).all() == []


async def test_the_downgrade_takes_the_wall_away(wall: Wall) -> None:
    """And the wall can be put up again after it."""
    for statement in drop_row_security_ddl(Letter):
        await execute(wall.service, statement)
    assert await read(wall.service) == ["a", "b"]
    chores = urlsplit(wall.chores.dsn).username
    for statement in row_security_ddl(Letter, every_org_role=chores):
        await execute(wall.service, statement)
    assert await read(wall.service) == []
    assert await read(wall.chores) == ["a", "b"]


async def test_odd_names_and_types_are_written_correctly(database: Server) -> None:
    """Each statement is one the server takes, whatever the table is called."""
    await execute(database, str(CreateTable(Odd.__table__).compile(dialect=postgresql.dialect())))
    for statement in (
        *row_security_ddl(Odd, every_org_role="postgres"),
        *drop_row_security_ddl(Odd),
    ):
        assert isinstance(statement, str)
        await execute(database, statement)


@pytest.mark.parametrize("ddl", [row_security_ddl, drop_row_security_ddl])
def test_a_table_without_org_id_is_refused(ddl: Any) -> None:
    """No policy can be written for it; the message says for which one."""
    with pytest.raises(ConfigurationError, match="Shared is not a scoped model"):
        ddl(Shared)
    with pytest.raises(ConfigurationError, match=r"Attachment.*protect the parent"):
        ddl(Attachment)

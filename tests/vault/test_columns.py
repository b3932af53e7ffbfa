# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The column types in PostgreSQL, in the ORM and in Core."""

import asyncio
import contextvars
import logging
import uuid

import pytest
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from forktex_core.vault import (
    BlindDigest,
    BlindIndex,
    EncryptedBytes,
    EncryptedJSON,
    EncryptedText,
    NotSearchableError,
    PayloadError,
    UnknownKeyError,
    Vault,
    VaultError,
)
from tests.vault.conftest import Sessions
from tests.vault.exposure import key_material
from tests.vault.models import BOTH, NEW, OLD, Credential, Person, Setting, Tracked


async def test_the_seeds_column_encrypts_and_decrypts(sessions: Sessions) -> None:
    """What is in the database is an enveloped token; what is read is the payload."""
    async with sessions() as session:
        session.add(Credential(payload={"hetzner_token": "hunter2"}))
        await session.commit()
    async with sessions() as session:
        row = (await session.scalars(select(Credential))).one()
        stored = await session.scalar(text("SELECT payload FROM credential"))
    assert row.payload == {"hetzner_token": "hunter2"}
    assert stored.startswith(f"fk1:{OLD.fingerprint}:")
    assert "hunter2" not in stored


async def test_bare_tokens_are_read(sessions: Sessions) -> None:
    """Rows that were written before there was an envelope stay readable."""
    async with sessions() as session:
        await session.execute(
            text("INSERT INTO credential VALUES (gen_random_uuid(), :token)"),
            {"token": NEW.encrypt({"a": 1})},
        )
        assert (await session.scalars(select(Credential.payload))).all() == [{"a": 1}]


async def test_null_is_null(sessions: Sessions) -> None:
    """None is NULL and back, findable as such; and NOT NULL holds."""
    async with sessions() as session:
        session.add_all([Credential(payload=None), Credential(payload={})])
        await session.commit()
        empty = select(Credential).where(Credential.payload.is_(None))
        assert [row.payload for row in await session.scalars(empty)] == [None]
        for full in (Credential.payload.is_not(None), Credential.payload != None):  # noqa: E711
            assert (await session.scalars(select(Credential.payload).where(full))).all() == [{}]
        session.add(Tracked(id=1, payload=None))
        with pytest.raises(IntegrityError):
            await session.commit()


async def test_bulk_core_returning_and_update(sessions: Sessions, engine: AsyncEngine) -> None:
    """Bulk inserts, Core statements and RETURNING carry payloads, not tokens."""
    rows = [{"id": uuid.UUID(int=i), "payload": {"i": i}} for i in range(50)]
    async with sessions() as session:
        returned = await session.scalars(
            insert(Credential).returning(Credential.payload, sort_by_parameter_order=True), rows
        )
        assert returned.all() == [row["payload"] for row in rows]
        await session.execute(
            update(Credential), [{"id": row["id"], "payload": {"j": 1}} for row in rows[:2]]
        )
        await session.commit()
    table = Credential.__table__
    async with engine.begin() as connection:
        await connection.execute(
            table.update().where(table.c.id == bindparam("row")).values(payload=bindparam("new")),
            [{"row": rows[2]["id"], "new": {"j": 2}}],
        )
        found = await connection.execute(select(table.c.payload).order_by(table.c.id).limit(4))
        assert found.scalars().all() == [{"j": 1}, {"j": 1}, {"j": 2}, {"i": 3}]
        changed = await connection.execute(
            table.update().where(table.c.id == rows[3]["id"]).values(payload=[1]).returning(table)
        )
        assert changed.one().payload == [1]


async def test_in_place_changes_are_noticed_by_choice(sessions: Sessions) -> None:
    """MutableDict.as_mutable tracks the top level; without it only assignment counts."""
    async with sessions() as session:
        session.add_all([Tracked(id=1, payload={"a": 1}), Credential(payload={"a": 1})])
        await session.commit()
        tracked = await session.get_one(Tracked, 1)
        tracked.payload["a"] = 2
        plain = (await session.scalars(select(Credential))).one()
        plain.payload["a"] = 2
        await session.commit()
    async with sessions() as session:
        assert (await session.get_one(Tracked, 1)).payload == {"a": 2}
        assert (await session.scalars(select(Credential.payload))).one() == {"a": 1}


async def test_text_bytes_and_a_column_bound_by_context(sessions: Sessions) -> None:
    """A token moved to a column of another context doesn't open; text compresses, bytes are raw."""
    org = uuid.uuid4()
    async with sessions() as session:
        session.add(Setting(org=org, name="a", value=[1], note="note " * 99, blob=b"\x1f\x8b\xff"))
        await session.commit()
        row = (await session.execute(text("SELECT value, note, blob FROM setting"))).one()
    assert OLD.decrypt(row.value, context=("setting", "value")) == [1]
    with pytest.raises(VaultError, match="bound to a context"):
        OLD.decrypt(row.value)
    assert len(row.note) < 300
    async with sessions() as session:
        read = await session.get_one(Setting, (org, "a"))
        assert (read.value, read.note, read.blob) == ([1], "note " * 99, b"\x1f\x8b\xff")


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c == {"a": 1},
        lambda c: c != "x",
        lambda c: c > 1,
        lambda c: c.in_([{}]),
        lambda c: c.like("%x%"),
        lambda c: c["key"],
        lambda c: c.desc(),
        lambda c: c.between(1, 2),
        lambda c: "x" + c,
        lambda c: c.is_(True),
    ],
)
def test_comparison_is_refused_with_what_to_do(ask: object) -> None:
    """Encrypted values can't be searched: the error comes when the query is written."""
    for column in (Credential.payload, Credential.__table__.c.payload, Setting.note):
        with pytest.raises(NotSearchableError, match="BlindIndex"):
            ask(column)


@pytest.mark.parametrize(
    ("column", "value"),
    [("payload", {"secret": "hunter2", "bad": {1j}}), ("note", 12), ("blob", "hunter2")],
)
async def test_a_refused_value_is_not_in_the_error(
    sessions: Sessions, column: str, value: object
) -> None:
    """SQLAlchemy would wrap the error in one that prints the parameters; ours passes unwrapped."""
    keys = {"org": uuid.uuid4(), "name": "n", "value": 1}
    model, others = (Credential, {}) if column == "payload" else (Setting, keys)
    async with sessions() as session:
        with pytest.raises(PayloadError) as caught:
            await session.execute(insert(model).values(others | {column: value}))
    assert "hunter2" not in str(caught.value)


async def test_logs_and_errors_of_the_database_show_tokens_only(
    database, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLAlchemy's log with statements and parameters, and an error that repeats a row.

    At DEBUG it logs what was read as the service gets it: docs/vault.md warns of that.
    """
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    loud = create_async_engine(database.url, echo=True)
    row = {"id": uuid.UUID(int=1), "payload": {"secret": "hunter2"}}
    async with loud.connect() as connection:
        await connection.execute(insert(Credential), row)
        assert (await connection.scalars(select(Credential.payload))).one() == row["payload"]
        with pytest.raises(IntegrityError) as caught:
            await connection.execute(insert(Credential), row)
    await loud.dispose()
    assert caplog.text.count(f"fk1:{OLD.fingerprint}:") == 2
    assert f"fk1:{OLD.fingerprint}:" in str(caught.value)
    assert "hunter2" not in caplog.text + str(caught.value)
    assert not [secret for secret in key_material() if secret in caplog.text]


current = contextvars.ContextVar[Vault]("current")


async def test_a_function_gives_the_vault_of_the_moment(engine: AsyncEngine) -> None:
    """Per tenant: each task's vault writes and reads its own rows, and not the other's."""
    column = EncryptedJSON(current.get)
    query = select(text("'x'")).where(text("false"))
    assert column.process_bind_param(None, engine.dialect) is None
    with pytest.raises(VaultError, match="LookupError"):
        column.process_bind_param({}, engine.dialect)

    async def write(tenant: str) -> str:
        current.set(OLD.derive(tenant))
        async with engine.connect() as connection:
            await connection.execute(query)
        return column.process_bind_param({"of": tenant}, engine.dialect)

    acme, globex = await asyncio.gather(write("acme"), write("globex"))
    current.set(OLD.derive("acme"))
    assert column.process_result_value(acme, engine.dialect) == {"of": "acme"}
    with pytest.raises(UnknownKeyError):
        column.process_result_value(globex, engine.dialect)


@pytest.mark.parametrize("type_", [EncryptedJSON, EncryptedText, EncryptedBytes, BlindIndex])
def test_what_is_no_vault_is_refused_at_once(type_: type) -> None:
    """A key instead of a vault fails where the model is written; None fails at the first value."""
    with pytest.raises(VaultError, match=rf"{type_.__name__} takes a Vault"):
        type_("a key")
    with pytest.raises(VaultError, match="form for migrations"):
        type_(None).process_bind_param("x", None)
    with pytest.raises(VaultError, match="takes a Vault"):
        type_(lambda: "a key").process_bind_param(b"x", None)
    with pytest.raises(ValueError, match="context"):
        type_(OLD, context=())


async def test_a_blind_index_finds_rows_by_value(sessions: Sessions) -> None:
    """Equal, unequal, IN and NULL; normalised; under each key of the vault."""
    async with sessions() as session:
        for i, email in enumerate(["a@x.org", "B@x.org", None]):
            session.add(Person(id=i, payload={"email": email}, email=email))
        index = Person.__table__.c.email.type
        moved = str(index.digests_of(NEW, "c@x.org")[0])
        await session.flush()
        await session.execute(
            text("INSERT INTO person VALUES (3, :payload, :email)"),
            {"payload": NEW.encrypt({}), "email": moved},
        )
        await session.commit()

        async def ids(*where: object) -> list[int]:
            query = select(Person.id).where(*where).order_by(Person.id)
            return list(await session.scalars(query))

        assert await ids(Person.email == "A@X.ORG") == [0]
        assert await ids(Person.email.in_(["b@x.org", "c@x.org"])) == [1, 3]
        assert await ids(Person.email != "a@x.org") == [1, 3]
        assert await ids(Person.email.is_(None)) == [2]
        assert await ids(Person.email == "d@x.org") == []
        digest = await session.scalar(select(Person.email).where(Person.id == 0))
        assert isinstance(digest, BlindDigest)
        assert await ids(Person.email == digest) == [0]
        with pytest.raises(NotSearchableError, match="only finds equal"):
            await ids(Person.email.like("a%"))
        with pytest.raises(PayloadError, match="not int"):
            await ids(Person.email.in_([7]))


def test_blind_indexes_are_apart() -> None:
    """By context, by tenant and by key; none of them is a plain hash or the encryption key's."""
    index = Person.__table__.c.email.type
    other = type(index)(OLD, context="other")
    digests = {
        index.digest("a"),
        other.digest("a"),
        type(index)(OLD).digest("a"),
        type(index)(OLD.derive("acme")).digest("a"),
        type(index)(NEW).digest("a"),
    }
    assert len(digests) == 5
    assert BOTH.fingerprint in index.digest("a")
    assert len(index.digest("a")) == 12 + 1 + 32

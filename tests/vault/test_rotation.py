# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rotation: completely, in batches, with contexts and indexes, around corrupt and locked rows."""

import asyncio
import gc
import tracemalloc
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Column as C
from sqlalchemy import Integer, LargeBinary, MetaData, Table, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from forktex_core.vault import DecryptionError, RotationError, RotationProgress, Vault, rotate_blobs
from tests.vault.conftest import Sessions
from tests.vault.exposure import shown, shown_by_rich
from tests.vault.models import BOTH, NEW, OLD, Credential, Legacy, Person, Setting

KEYS: dict[str, Any] = {"old": OLD, "new": NEW}
PAYLOAD: dict[str, Any] = {"table": Credential, "column": "payload", **KEYS}
COUNT = 57


async def fill(sessions: Sessions, count: int = COUNT) -> None:
    """Write rows with the old key."""
    async with sessions() as session:
        rows = [{"id": uuid.UUID(int=i), "payload": {"i": i}} for i in range(count)]
        await session.execute(insert(Credential), rows)
        await session.commit()


async def stored(sessions: Sessions, column: str = "payload", table: str = "credential") -> list:
    """Return the raw tokens by primary key."""
    async with sessions() as session:
        return list(await session.scalars(text(f"SELECT {column} FROM {table} ORDER BY 1")))


async def on_key(sessions: Sessions, vault: Vault) -> int:
    """Count tokens of a key."""
    tokens = await stored(sessions)
    return sum(token.startswith(f"fk1:{vault.fingerprint}:") for token in tokens if token)


@pytest.mark.parametrize("factory", [True, False])
async def test_everything_moves_to_the_new_key(sessions: Sessions, factory: bool) -> None:
    """As in the seed: after it the new vault reads all rows by itself, and NULL stays NULL."""
    await fill(sessions)
    async with sessions() as session:
        session.add(Credential(payload=None))
        await session.commit()
        report = await rotate_blobs(sessions if factory else session, batch_size=10, **PAYLOAD)
        await session.commit()
    assert (report.rotated, report.remaining, report.corrupt_count) == (COUNT, 0, 0)
    assert report.keys == {OLD.fingerprint: COUNT}
    tokens = await stored(sessions)
    assert sorted(NEW.decrypt(t)["i"] for t in tokens if t) == list(range(COUNT))
    again = await rotate_blobs(sessions, **PAYLOAD)
    assert (again.rotated, again.keys) == (0, {NEW.fingerprint: COUNT})
    assert await stored(sessions) == tokens


async def test_a_session_leaves_the_transaction_to_its_caller(sessions: Sessions) -> None:
    """Rolled back by the caller, nothing was rotated; its unflushed changes take part."""
    await fill(sessions)
    async with sessions() as session:
        session.add(Credential(payload={"i": -1}))
        report = await rotate_blobs(session, **PAYLOAD)
        assert report.rotated == COUNT + 1
        await session.rollback()
    assert await on_key(sessions, OLD) == COUNT


async def test_the_tokens_time_and_payload_bytes_stay(sessions: Sessions) -> None:
    """A ttl goes on counting, and what is inside isn't even parsed."""
    early = Vault.from_keys(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="], clock=lambda: 1_000)
    async with sessions() as session:
        session.add(Legacy(id=1, text=early.encrypt_bytes(b"\x00 not json")))
        await session.commit()
    await rotate_blobs(sessions, table=Legacy, column="text", **KEYS)
    (token,) = await stored(sessions, "text", "legacy")
    late = Vault.from_key("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", clock=lambda: 1_010)
    assert late.decrypt_bytes(token, ttl=10) == b"\x00 not json"
    with pytest.raises(Exception, match="10 s old"):
        late.decrypt_bytes(token, ttl=9)


async def test_composite_keys_and_several_tables_in_one_transaction(sessions: Sessions) -> None:
    """Pages by (uuid, text), takes the column's context, and each column by itself."""
    await fill(sessions)
    orgs = [uuid.uuid4() for _ in range(3)]
    async with sessions() as session:
        for org in orgs:
            for i in range(9):
                session.add(Setting(org=org, name=f"n{i}", value=i, note="n", blob=b"b"))
        await session.commit()
        await rotate_blobs(session, **PAYLOAD)
        for column in ("value", "note", "blob"):
            report = await rotate_blobs(session, table=Setting, column=column, batch_size=4, **KEYS)
            assert report.rotated == 27
        await session.commit()
        left = text("SELECT count(*) FROM setting WHERE (value || note || blob) LIKE :old")
        assert await session.scalar(left, {"old": f"%{OLD.fingerprint}%"}) == 0
    async with sessions() as session:
        rows = list(await session.scalars(select(Setting)))
    assert {(row.note, row.blob) for row in rows} == {("n", b"b")}
    assert sorted(row.value for row in rows) == sorted(list(range(9)) * 3)


async def test_json_columns_and_bare_tokens(sessions: Sessions) -> None:
    """A token in JSONB or JSON is a string; bare tokens of either key become enveloped ones."""
    async with sessions() as session:
        for i, vault in enumerate([OLD, NEW, OLD]):
            token = vault.encrypt(i, envelope=i == 2)
            session.add(Legacy(id=i, text=token, doc=token, raw=token))
        session.add_all([Legacy(id=3), Legacy(id=4, doc=None, raw=None)])  # NULL, and JSON's null.
        await session.commit()
    dry = await rotate_blobs(sessions, table=Legacy, column="doc", dry_run=True, **KEYS)
    assert dry.keys == {OLD.fingerprint: 2, NEW.fingerprint: 1}
    assert (dry.rotated, dry.remaining) == (0, 3)
    for column in ("doc", "raw", "text"):
        report = await rotate_blobs(sessions, table=Legacy, column=column, **KEYS)
        assert report.rotated == 3
    async with sessions() as session:
        rows = list(await session.scalars(select(Legacy).order_by(Legacy.id)))
    for row in rows[:3]:
        assert NEW.decrypt(row.doc) == NEW.decrypt(row.raw) == NEW.decrypt(row.text) == row.id
        assert row.doc.startswith(f"fk1:{NEW.fingerprint}:")
    assert (rows[3].doc, rows[3].text) == (None, None)


async def test_tokens_bound_to_their_row(sessions: Sessions) -> None:
    """`context` is a function of the primary key, so rows' tokens stay bound to them."""
    async with sessions() as session:
        for i in range(5):
            token = OLD.encrypt(i, context=("legacy", i), envelope=True)
            session.add(Legacy(id=i, text=token))
        await session.commit()
    await rotate_blobs(
        sessions, table=Legacy, column="text", context=lambda key: ("legacy", key["id"]), **KEYS
    )
    async with sessions() as session:
        rows = list(await session.scalars(select(Legacy)))
    assert [NEW.decrypt(row.text, context=("legacy", row.id)) for row in rows] == [
        row.id for row in rows
    ]


async def test_wrapped_keys_rotate_and_their_data_stays(sessions: Sessions) -> None:
    """Rotating the KEK re-wraps tenants' keys; deleting one forgets that tenant."""
    wrapped = OLD.wrap_new_key(context=1)
    token = OLD.unwrap_key(wrapped, context=1).encrypt("data")
    async with sessions() as session:
        session.add(Legacy(id=1, text=wrapped))
        await session.commit()
    await rotate_blobs(sessions, table=Legacy, column="text", context=lambda key: key["id"], **KEYS)
    (rewrapped,) = await stored(sessions, "text", "legacy")
    assert NEW.unwrap_key(rewrapped, context=1).decrypt(token) == "data"


async def test_forgetting_a_tenant_is_deleting_its_key(sessions: Sessions) -> None:
    """Without the row of its wrapped key, neither the old nor the new KEK opens its data."""
    async with sessions() as session:
        session.add_all(Legacy(id=i, text=OLD.wrap_new_key(context=i)) for i in (1, 2))
        await session.commit()
        tokens = {
            row.id: OLD.unwrap_key(row.text, context=row.id).encrypt("data", envelope=True)
            for row in await session.scalars(select(Legacy))
        }
        await session.delete(await session.get_one(Legacy, 1))
        await session.commit()
    await rotate_blobs(sessions, table=Legacy, column="text", context=lambda key: key["id"], **KEYS)
    (left,) = await stored(sessions, "text", "legacy")
    assert NEW.unwrap_key(left, context=2).decrypt(tokens[2]) == "data"
    for vault in (OLD, NEW, BOTH, NEW.unwrap_key(left, context=2)):
        with pytest.raises(DecryptionError):
            vault.decrypt(tokens[1])


async def test_one_tenant_at_a_time(sessions: Sessions) -> None:
    """`where` limits a rotation: derived vaults rotate tenant by tenant."""
    async with sessions() as session:
        for i in range(6):
            session.add(Legacy(id=i, text=OLD.derive(i % 2).encrypt(i, envelope=True)))
        await session.commit()
    report = await rotate_blobs(
        sessions,
        table=Legacy,
        column="text",
        old=OLD.derive(1),
        new=NEW.derive(1),
        where=Legacy.id % 2 == 1,
    )
    assert report.rotated == 3
    async with sessions() as session:
        for row in await session.scalars(select(Legacy)):
            vault = NEW.derive(1) if row.id % 2 else OLD.derive(0)
            assert vault.decrypt(row.text) == row.id


async def test_blind_indexes_move_along(sessions: Sessions) -> None:
    """Also of a row whose payload is on the new key already, but whose digest isn't."""
    async with sessions() as session:
        for i in range(5):
            session.add(Person(id=i, payload={"email": f"{i}@x"}, email=f"{i}@x"))
        await session.commit()
        await session.execute(
            text("UPDATE person SET payload = :new WHERE id = 0"),
            {"new": NEW.encrypt({"email": "0@x"}, envelope=True)},
        )
        await session.commit()
    report = await rotate_blobs(
        sessions, table=Person, column="payload", index={"email": lambda p: p["email"]}, **KEYS
    )
    assert report.rotated == 5
    index = Person.__table__.c.email.type
    async with sessions() as session:
        digests = (await session.scalars(select(Person.email).order_by(Person.id))).all()
    assert digests == [index.digests_of(NEW, f"{i}@x")[0] for i in range(5)]


async def corrupt(sessions: Sessions) -> dict[int, str]:
    """Break four rows in four ways."""
    broken = {
        3: "plain text",
        11: OLD.encrypt("x", envelope=True)[:-6],
        12: Vault.from_key(Vault.generate_key()).encrypt("x", envelope=True),
        40: f"fk1:{OLD.fingerprint}:" + NEW.encrypt("x"),
    }
    async with sessions() as session:
        for i, token in broken.items():
            await session.execute(
                text("UPDATE credential SET payload = :token WHERE id = :id"),
                {"token": token, "id": uuid.UUID(int=i)},
            )
        await session.commit()
    return broken


async def test_corrupt_rows_are_reported_and_skipped_by_choice(sessions: Sessions) -> None:
    """Each with its key and what is wrong; all others move; the broken ones stay."""
    await fill(sessions)
    broken = await corrupt(sessions)
    report = await rotate_blobs(sessions, batch_size=5, on_corrupt="skip", **PAYLOAD)
    assert (report.rotated, report.remaining, report.corrupt_count) == (COUNT - 4, 0, 4)
    assert [row.key["id"].int for row in report.corrupt] == sorted(broken)
    kinds = [row.reason.partition(":")[0].split()[0] for row in report.corrupt]
    assert kinds == ["malformed", "malformed", "unknown", "tampered,"]
    assert set(broken.values()) <= set(await stored(sessions))
    dry = await rotate_blobs(sessions, dry_run=True, **PAYLOAD)
    assert (dry.remaining, dry.corrupt_count) == (0, 4)


async def test_a_corrupt_row_is_fatal_by_default_and_nothing_else_is_lost(
    sessions: Sessions,
) -> None:
    """It stops behind the row's batch, which is written; mended, it goes on to the end."""
    await fill(sessions)
    await corrupt(sessions)
    with pytest.raises(RotationError, match=r"id=00000000-.*003: malformed.*on_corrupt") as caught:
        await rotate_blobs(sessions, batch_size=5, **PAYLOAD)
    assert (caught.value.report.rotated, await on_key(sessions, NEW)) == (4, 4)
    async with sessions() as session:
        await session.execute(
            text("DELETE FROM credential WHERE id = ANY(:ids)"),
            {"ids": [uuid.UUID(int=i) for i in (3, 11, 12, 40)]},
        )
        await session.commit()
    report = await rotate_blobs(sessions, **PAYLOAD)
    assert report.rotated == COUNT - 8


async def test_a_dry_run_changes_and_locks_nothing(sessions: Sessions) -> None:
    """It counts while another transaction holds every row."""
    await fill(sessions)
    before = await stored(sessions)
    async with sessions() as holder:
        await holder.execute(select(Credential.id).with_for_update())
        report = await rotate_blobs(sessions, dry_run=True, **PAYLOAD)
    assert (report.remaining, report.rotated, report.keys) == (COUNT, 0, {OLD.fingerprint: COUNT})
    assert await stored(sessions) == before


async def test_rows_that_others_hold_are_waited_for_without_blocking(sessions: Sessions) -> None:
    """The others move at once; when the lock is gone, so do these."""
    await fill(sessions)
    async with sessions() as holder:
        held = select(Credential).where(Credential.id < uuid.UUID(int=5)).with_for_update()
        await holder.execute(held)
        rotation = asyncio.create_task(rotate_blobs(sessions, **PAYLOAD))
        while await on_key(sessions, NEW) < COUNT - 5:
            await asyncio.wait([rotation], timeout=0.01)
        assert not rotation.done()
        await holder.rollback()
    assert (await rotation).rotated == COUNT


async def test_rows_that_stay_locked_end_the_patience(sessions: Sessions) -> None:
    """The verification doesn't pass them over: the error says how many are left."""
    await fill(sessions)
    async with sessions() as holder:
        await holder.execute(select(Credential).limit(3).with_for_update())
        with pytest.raises(RotationError, match="3 rows stayed locked") as caught:
            await rotate_blobs(sessions, patience=0.1, **PAYLOAD)
    assert (caught.value.report.rotated, caught.value.report.remaining) == (COUNT - 3, 3)


async def test_children_can_be_inserted_while_a_batch_is_locked(sessions: Sessions) -> None:
    """The row lock is the one of an UPDATE: foreign keys to the row are still checked freely."""
    async with sessions() as session:
        session.add(Legacy(id=1, text=OLD.encrypt(1)))
        await session.commit()
        await rotate_blobs(session, table=Legacy, column="text", **KEYS)
        async with sessions() as other:
            await other.execute(text("SET lock_timeout = '2s'"))
            other.add(Legacy(id=2, parent=1))
            await other.commit()
        await session.commit()
    assert len(await stored(sessions, "id", "legacy")) == 2


async def test_two_rotations_share_the_work(sessions: Sessions) -> None:
    """Side by side, each row is rotated once."""
    await fill(sessions, 300)
    reports = await asyncio.gather(
        *(rotate_blobs(sessions, batch_size=7, **PAYLOAD) for _ in range(3))
    )
    assert sum(report.rotated for report in reports) == 300
    assert await on_key(sessions, NEW) == 300


async def test_progress_is_told_after_each_batch(sessions: Sessions) -> None:
    """To a function or a coroutine function; a raising one ends the rotation, resumably."""
    await fill(sessions)
    seen: list[RotationProgress] = []

    async def tell(progress: RotationProgress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotate_blobs(sessions, batch_size=10, progress=tell, **PAYLOAD)
    assert [p.done for p in seen] == [10, 20, 30]
    assert await on_key(sessions, NEW) == 30
    seen.clear()
    report = await rotate_blobs(sessions, batch_size=10, progress=seen.append, **PAYLOAD)
    assert seen[-1] == RotationProgress(27, 27)
    assert report.rotated == 27


async def test_what_is_written_behind_a_pass_is_found(sessions: Sessions) -> None:
    """A service on the old key writes rows that a pass has been at: twice, so three passes."""
    await fill(sessions)
    late = [3, 4]

    async def write(progress: RotationProgress) -> None:
        if progress.done >= COUNT and late:
            async with sessions() as session:
                row = Credential.id == uuid.UUID(int=late.pop())
                await session.execute(update(Credential).where(row).values(payload={"i": 0}))
                await session.commit()

    report = await rotate_blobs(sessions, batch_size=10, progress=write, **PAYLOAD)
    assert (report.rotated, report.remaining) == (COUNT + 2, 0)
    assert await on_key(sessions, NEW) == COUNT


async def test_autocommit_loses_no_update(engine: AsyncEngine, sessions: Sessions) -> None:
    """A value written between a batch's read and its write stays, though nothing is locked."""
    async with sessions() as session:
        session.add_all(
            Legacy(id=i, text=OLD.encrypt("first", context=i, envelope=True)) for i in range(5)
        )
        await session.commit()
    loop, written = asyncio.get_running_loop(), []

    async def write(i: int) -> None:
        async with sessions() as session:
            newer = OLD.encrypt("newer", context=i, envelope=True)
            await session.execute(update(Legacy).where(Legacy.id == i).values(text=newer))
            await session.commit()
        written.append(i)

    def context(key: Mapping[str, Any]) -> int:
        """Called for each row that was read, before the batch is written."""
        if key["id"] == 3 and not written:
            asyncio.run_coroutine_threadsafe(write(3), loop).result(5)
        return key["id"]

    autocommit = async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))
    report = await rotate_blobs(autocommit, table=Legacy, column="text", context=context, **KEYS)
    assert (report.rotated, written) == (5, [3])
    tokens = await stored(sessions, "text", "legacy")
    values = {i: NEW.decrypt(t, context=i) for i in range(5) for t in tokens if opens(t, i)}
    assert values == {0: "first", 1: "first", 2: "first", 3: "newer", 4: "first"}


def opens(token: str, place: int) -> bool:
    """Tell whether a token is bound to this place."""
    try:
        NEW.decrypt(token, context=place)
    except DecryptionError:
        return False
    return True


async def fill_legacy(sessions: Sessions, token: str, count: int) -> None:
    """Write the same token into so many rows."""
    async with sessions() as session:
        await session.execute(text("TRUNCATE legacy"))
        rows = text("INSERT INTO legacy (id, text) SELECT i, :t FROM generate_series(1, :n) i")
        await session.execute(rows, {"t": token, "n": count})
        await session.commit()


async def peak_of_rotation(sessions: Sessions, **options: Any) -> int:
    """Return the peak of traced memory while Python's cycle collector stands still."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        await rotate_blobs(sessions, table=Legacy, column="text", batch_size=50, **KEYS, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("factory", [True, False])
async def test_memory_is_that_of_a_batch(sessions: Sessions, factory: bool) -> None:
    """Four times the rows, the same peak: no batch is held, and none waits for the collector.

    With the values in the statements, which are cyclic, each batch of 100 kB stayed for a while.
    """
    token, peaks = OLD.encrypt("x" * 1_000, envelope=True), []
    for count in (300, 300, 1_200):  # The first one fills caches.
        await fill_legacy(sessions, token, count)
        if factory:
            peaks.append(await peak_of_rotation(sessions))
            continue
        async with sessions() as session:
            peaks.append(await peak_of_rotation(session))
    assert peaks[2] < 1.1 * peaks[1]


async def test_memory_does_not_grow_with_corrupt_rows(sessions: Sessions) -> None:
    """All of them are counted, a thousand are kept."""
    await fill_legacy(sessions, "broken", 1_500)
    report = await rotate_blobs(sessions, table=Legacy, column="text", on_corrupt="skip", **KEYS)
    assert (report.corrupt_count, len(report.corrupt)) == (1_500, 1_000)


async def test_a_batch_of_large_rows_has_fewer(sessions: Sessions) -> None:
    """A batch's tokens stay below 16 MiB: eleven of the largest that a vault makes by default."""
    await fill_legacy(sessions, OLD.encrypt_bytes(bytes(1_048_576)), 13)
    told: list[int] = []
    await rotate_blobs(
        sessions, table=Legacy, column="text", progress=lambda p: told.append(p.done), **KEYS
    )
    assert told == [11, 13]


async def test_a_failing_database_is_wrapped(sessions: Sessions, engine: AsyncEngine) -> None:
    """The driver's error is the cause, the report is there, and nothing is half done."""
    await fill(sessions)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF OLD.id = '00000000-0000-0000-0000-00000000001e' THEN RAISE 'disk on fire'; "
                "END IF; RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text("CREATE TRIGGER no BEFORE UPDATE ON credential FOR EACH ROW EXECUTE FUNCTION no()")
        )
    with pytest.raises(RotationError, match="disk on fire") as caught:
        await rotate_blobs(sessions, batch_size=10, **PAYLOAD)
    assert caught.value.__cause__ is not None
    assert '"i"' not in shown(caught.value) + shown_by_rich(caught.value)  # No plaintext.
    assert caught.value.report.rotated == await on_key(sessions, NEW) == 30


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"column": "nope"}, "no column 'nope'; it has id, payload"),
        ({"table": "credential"}, "mapped class or a Table"),
        ({"table": Table("t", MetaData(), C("a"))}, "no column"),
        ({"table": Table("t", MetaData(), C("payload"))}, "no primary key"),
        ({"table": Table("t", MetaData(), C("payload", LargeBinary))}, "convert_from"),
        ({"table": Table("t", MetaData(), C("payload", Integer))}, "INTEGER, which holds no"),
        ({"batch_size": 0}, "at least 1"),
        ({"index": {"payload": str}}, "no BlindIndex"),
    ],
)
async def test_wrong_arguments_are_refused_first(
    sessions: Sessions, arguments: dict[str, Any], complaint: str
) -> None:
    """Before anything is read, with what to do."""
    with pytest.raises((ValueError, TypeError), match=complaint):
        await rotate_blobs(sessions, **{**PAYLOAD, **arguments})


async def test_new_may_still_hold_the_old_key(sessions: Sessions) -> None:
    """What counts as rotated is the first key of `new`."""
    await fill(sessions)
    ring = Vault.from_keys(
        [
            "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ]
    )
    await rotate_blobs(sessions, table=Credential, column="payload", old=BOTH, new=ring)
    assert await on_key(sessions, NEW) == COUNT
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Credential)) == COUNT

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rotation beside concurrent writers, and a rotating process that is killed."""

import asyncio
import signal
import sys
import textwrap
import uuid
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, delete, insert, select, text, type_coerce
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from forktex_core.vault import Vault, rotate_blobs
from tests.vault.conftest import Sessions
from tests.vault.models import NEW, OLD, Credential

ROWS = 12
STEP = st.tuples(st.integers(0, ROWS - 1), st.sampled_from(["add", "blind"]), st.booleans())


async def write(sessions: Sessions, steps: list[tuple[int, str, bool]]) -> None:
    """Count a row up, with either key: by read-modify-write, or by a guarded blind overwrite."""
    column = type_coerce(Credential.payload, Text)
    for i, kind, new in steps:
        vault = NEW if new else OLD
        async with sessions() as session:
            chosen = select(column).where(Credential.id == uuid.UUID(int=i))
            token = await session.scalar(chosen.with_for_update() if kind == "add" else chosen)
            reader = NEW if token.startswith(f"fk1:{NEW.fingerprint}") else OLD
            count = reader.decrypt(token)["count"] + 1
            update = text(
                "UPDATE credential SET payload = :fresh "
                "WHERE id = :id AND (:locked OR payload = :was)"
            )
            done = await session.execute(
                update,
                {
                    "fresh": vault.encrypt({"count": count}, envelope=True),
                    "id": uuid.UUID(int=i),
                    "locked": kind == "add",
                    "was": token,
                },
            )
            await session.commit()
            WRITTEN[i] += done.rowcount


WRITTEN = [0] * ROWS


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    writers=st.lists(st.lists(STEP, max_size=12), min_size=1, max_size=3), batch=st.integers(1, 6)
)
async def test_no_update_of_concurrent_writers_is_lost(
    engine: AsyncEngine, writers: list[list[tuple[int, str, bool]]], batch: int
) -> None:
    """Every committed increment is there afterwards, whichever key it was written with."""
    sessions = async_sessionmaker(engine)
    WRITTEN[:] = [0] * ROWS
    async with sessions() as session:
        await session.execute(delete(Credential))
        rows = [{"id": uuid.UUID(int=i), "payload": {"count": 0}} for i in range(ROWS)]
        await session.execute(insert(Credential), rows)
        await session.commit()
    arguments = {"table": Credential, "column": "payload", "old": OLD, "new": NEW}
    await asyncio.gather(
        *(write(sessions, steps) for steps in writers),
        *(rotate_blobs(sessions, batch_size=batch, **arguments) for _ in range(2)),
    )
    await rotate_blobs(sessions, batch_size=batch, **arguments)
    async with sessions() as session:
        tokens = await session.scalars(
            select(type_coerce(Credential.payload, Text)).order_by(Credential.id)
        )
        assert [NEW.decrypt(token)["count"] for token in tokens] == WRITTEN


ROTATE = """
    import asyncio, sys
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from forktex_core.vault import rotate_blobs
    from tests.vault.models import NEW, OLD, Credential

    async def main():
        engine = create_async_engine(sys.argv[1])
        await rotate_blobs(
            async_sessionmaker(engine), table=Credential, column="payload", old=OLD, new=NEW,
            batch_size=3, progress=lambda p: print(p.done, flush=True),
        )
        await engine.dispose()

    asyncio.run(main())
"""


async def on_key(sessions: Sessions, vault: Vault) -> int:
    """Count the rows on a key."""
    async with sessions() as session:
        tokens = await session.scalars(select(type_coerce(Credential.payload, Text)))
        return sum(token.startswith(f"fk1:{vault.fingerprint}:") for token in tokens)


async def test_a_killed_rotation_is_resumed(database, sessions: Sessions) -> None:
    """SIGKILL in the middle: rows are on one key or the other, and a second run does the rest."""
    async with sessions() as session:
        rows = [{"id": uuid.UUID(int=i), "payload": {"i": i}} for i in range(3_000)]
        await session.execute(insert(Credential), rows)
        await session.commit()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(ROTATE),
        database.url,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    for _ in range(5):
        await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    rotated = await on_key(sessions, NEW)
    assert 15 <= rotated < 3_000
    assert await on_key(sessions, OLD) == 3_000 - rotated
    report = await rotate_blobs(sessions, table=Credential, column="payload", old=OLD, new=NEW)
    assert report.rotated == 3_000 - rotated
    assert await on_key(sessions, NEW) == 3_000
    async with sessions() as session:
        payloads = (await session.scalars(select(Credential.payload))).all()
    assert sorted(payload["i"] for payload in payloads) == list(range(3_000))


WRITE = """
    import asyncio, sys, uuid
    from sqlalchemy import Text, select, text, type_coerce
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from tests.vault.models import BOTH, NEW_FIRST, Credential

    async def main():
        vault = BOTH if sys.argv[2] == "old" else NEW_FIRST
        engine = create_async_engine(sys.argv[1])
        sessions = async_sessionmaker(engine)
        column = type_coerce(Credential.payload, Text)
        for i in range(100):
            place = uuid.UUID(int=i % 12)
            async with sessions() as session:
                chosen = select(column).where(Credential.id == place).with_for_update()
                count = vault.decrypt(await session.scalar(chosen))["count"] + 1
                fresh = {"fresh": vault.encrypt({"count": count}, envelope=True), "id": place}
                change = text("UPDATE credential SET payload = :fresh WHERE id = :id")
                await session.execute(change, fresh)
                await session.commit()
            print(i, flush=True)
        await engine.dispose()

    asyncio.run(main())
"""


async def test_no_update_of_other_processes_is_lost(database, sessions: Sessions) -> None:
    """Two services, one on each key, count 100 times each while rotations go round."""
    async with sessions() as session:
        rows = [{"id": uuid.UUID(int=i), "payload": {"count": 0}} for i in range(ROWS)]
        await session.execute(insert(Credential), rows)
        await session.commit()
    services = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(WRITE), database.url, key),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for key in ("old", "new")
    ]
    await asyncio.gather(*(service.stdout.readline() for service in services))
    ended = asyncio.gather(*(service.communicate() for service in services))
    arguments = {"table": Credential, "column": "payload", "old": OLD, "new": NEW}
    rotated = 0
    while not ended.done():
        report = await rotate_blobs(sessions, batch_size=2, **arguments)
        rotated += report.rotated
    rotated += (await rotate_blobs(sessions, **arguments)).rotated
    assert [service.returncode for service in services] == [0, 0]
    assert rotated > 0  # how many depends on who wrote last; that none is left is decrypted below
    async with sessions() as session:
        tokens = await session.scalars(select(type_coerce(Credential.payload, Text)))
        assert sum(NEW.decrypt(token)["count"] for token in tokens) == 200

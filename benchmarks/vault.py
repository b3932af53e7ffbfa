# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What the vault costs: against bare Fernet with json, and a rotation under a writing service.

    python -m benchmarks.vault [--rows 20000] [--postgres-url postgresql://…]

Ratios are of alternating runs, medians. The service shares this process and its core. Memory is the
process's peak above what it had after a first small rotation, at a quarter of the rows, at the rows
and at four times as many: the three are alike, for a rotation holds one batch.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import time
from collections.abc import Callable

from cryptography.fernet import Fernet
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.vault import EncryptedJSON, Vault, rotate_blobs

PAYLOAD = {f"field_{i:02}": "x" * 20 for i in range(29)}
ROUNDS, CALLS = 41, 300
OLD_KEY, NEW_KEY = Vault.generate_key(), Vault.generate_key()
OLD, NEW = Vault.from_key(OLD_KEY), Vault.from_key(NEW_KEY)
# The second phase of a rotation: the service writes with the new key and reads both.
SERVICE = Vault.from_keys([NEW_KEY, OLD_KEY])


class Base(DeclarativeBase):
    """Metadata of this benchmark."""


class Blob(Base):
    """A row of 1 KiB."""

    __tablename__ = "blob"
    id: Mapped[int] = mapped_column(primary_key=True)
    payload: Mapped[dict] = mapped_column(EncryptedJSON(SERVICE))


def seconds(work: Callable[[], object]) -> float:
    """Measure one round."""
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Return the ratio of the medians of alternating rounds, and ours in microseconds."""
    measured = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(column) for column in zip(*measured, strict=True))
    return mine / other, mine / CALLS * 1e6


def tokens() -> None:
    """Compare one encryption and one decryption of 1 KiB."""
    fernet = Fernet(OLD_KEY)
    place = ("blob", "payload")
    bare, enveloped = OLD.encrypt(PAYLOAD), OLD.encrypt(PAYLOAD, envelope=True)
    bound, standard = OLD.encrypt(PAYLOAD, context=place), json.dumps(PAYLOAD).encode()
    sealed = fernet.encrypt(standard)

    def encrypt() -> object:
        return fernet.encrypt(json.dumps(PAYLOAD).encode())

    def decrypt() -> object:
        return json.loads(fernet.decrypt(sealed))

    rows = [
        ("encrypt", lambda: OLD.encrypt(PAYLOAD), encrypt),
        ("encrypt, enveloped", lambda: OLD.encrypt(PAYLOAD, envelope=True), encrypt),
        ("encrypt, bound", lambda: OLD.encrypt(PAYLOAD, context=place), encrypt),
        ("decrypt", lambda: OLD.decrypt(bare), decrypt),
        ("decrypt, enveloped", lambda: OLD.decrypt(enveloped), decrypt),
        ("decrypt, bound", lambda: OLD.decrypt(bound, context=place), decrypt),
    ]
    print(f"payload of {len(standard)} bytes")
    for name, ours, theirs in rows:
        times, micros = ratio(ours, theirs)
        print(f"{name:20} {times:5.2f} x bare Fernet + json   ({micros:.1f} µs)")


async def write_until(
    stop: asyncio.Event, sessions: async_sessionmaker[AsyncSession], rows: int
) -> int:
    """Read, change and write rows as a service does; return how many."""
    written = 0
    while not stop.is_set():
        async with sessions() as session:
            chosen = select(Blob).where(Blob.id == random.randrange(rows)).with_for_update()
            row = (await session.scalars(chosen)).one()
            row.payload = {**row.payload, "seen": written}
            await session.commit()
        written += 1
    return written


def peak() -> float:
    """Return this process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def fill(engine: AsyncEngine, rows: int) -> None:
    """Write rows with the old key."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        for start in range(0, rows, 500):
            batch = [
                {"id": i, "payload": OLD.encrypt(PAYLOAD, envelope=True)}
                for i in range(start, min(start + 500, rows))
            ]
            await connection.execute(text("INSERT INTO blob VALUES (:id, :payload)"), batch)


async def rotate(engine: AsyncEngine, rows: int) -> str:
    """Rotate a table while a service writes to it; return what was measured."""
    await fill(engine, rows)
    sessions, stop = async_sessionmaker(engine), asyncio.Event()
    service = asyncio.create_task(write_until(stop, sessions, rows))
    cpu, begun = time.process_time(), time.perf_counter()
    report = await rotate_blobs(sessions, table=Blob, column="payload", old=OLD, new=NEW)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    stop.set()
    written = await service
    return (
        f"{report.rotated:7,} rows: {report.rotated / took * 60:,.0f} rows a minute, "
        f"{report.rotated / cpu * 60:,.0f} a CPU minute of rotation and service together, beside "
        f"{written / took:,.0f} writes a second"
    )


async def rotation(url: str, rows: int) -> None:
    """Rotate tables of three sizes, and tell what the peak of memory grew by."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    await rotate(engine, 1_000)
    before = peak()
    for count in (rows // 4, rows, rows * 4):
        measured = await rotate(engine, count)
        print(f"rotation of {measured}; memory +{peak() - before:.1f} MB")
    await engine.dispose()


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--postgres-url")
    options = parser.parse_args()
    tokens()
    if options.postgres_url:
        asyncio.run(rotation(options.postgres_url, options.rows))
        return
    with EmbeddedPostgres() as server:
        asyncio.run(rotation(server.dsn, options.rows))


if __name__ == "__main__":
    main()

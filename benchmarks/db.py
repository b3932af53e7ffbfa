# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What `db` costs beside plain SQLAlchemy and raw asyncpg, and cursor pages beside offset pages.

    python -m benchmarks.db [--rounds 15] [--rows 50000]

All three take turns on one embedded PostgreSQL (fsync on), each call in a transaction and with a
pooled connection of its own; medians of the rounds, in milliseconds a call. Plain SQLAlchemy is
an `async_sessionmaker` with `expire_on_commit=False` and a `select()` written out; for the scoped
model it writes the filter itself. All models have what `BaseDBModel` brings.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

from forktex_core.db import (
    BaseDBModel,
    Database,
    OrgScopedMixin,
    Repository,
    org_scope,
    uuid7,
)
from forktex_core.embedded import EmbeddedPostgres

BATCH, SIZE, CALLS = 1000, 50, 20
ORG = uuid7()
type Call = Callable[[], Awaitable[object]]


class Item(BaseDBModel):
    """A row like many."""

    __tablename__ = "item"
    name: Mapped[str]
    rank: Mapped[int] = mapped_column(index=True)


class Owned(OrgScopedMixin, BaseDBModel):
    """A row of an organisation."""

    __tablename__ = "owned"
    name: Mapped[str]


class Ways:
    """The three ways to one server."""

    def __init__(self, database: Database, plain: Any, raw: asyncpg.Pool) -> None:
        self.database = database
        self.plain: async_sessionmaker[AsyncSession] = plain
        self.raw = raw

    async def ours(self, model: Any, work: Callable[[Any], Awaitable[object]]) -> object:
        """In a session of ours, with a repository."""
        async with self.database.session() as session:
            return await work(Repository[model](session))  # type: ignore[valid-type]

    async def theirs(self, work: Callable[[AsyncSession], Awaitable[object]]) -> object:
        """In a session of SQLAlchemy's."""
        async with self.plain.begin() as session:
            return await work(session)

    async def bare(self, work: Callable[[Any], Awaitable[object]]) -> object:
        """In a transaction of the driver's."""
        async with self.raw.acquire() as connection, connection.transaction():
            return await work(connection)


def cases(ways: Ways, key: Any, owned: Any) -> dict[str, dict[str, Call]]:
    """What is measured, each in its ways."""
    insert = "INSERT INTO item (id, name, rank) VALUES ($1, $2, $3)"

    async def add(session: AsyncSession, count: int) -> None:
        session.add_all(Item(name="x", rank=-1) for _ in range(count))

    async def scoped() -> object:
        with org_scope(ORG):
            return await ways.ours(Owned, lambda rows: rows.get_by(id=owned))

    filtered = select(Owned).where(Owned.id == owned, Owned.org_id == ORG)
    many = [{"name": "x", "rank": -1}] * BATCH
    first = select(Item).order_by(Item.rank, Item.id).limit(BATCH)
    return {
        "get one row": {
            "db": lambda: ways.ours(Item, lambda rows: rows.get(key)),
            "sqlalchemy": lambda: ways.theirs(lambda s: s.get(Item, key)),
            "asyncpg": lambda: ways.bare(
                lambda c: c.fetchrow("SELECT * FROM item WHERE id=$1", key)
            ),
        },
        "get one row, scoped": {
            "db": scoped,
            "sqlalchemy": lambda: ways.theirs(lambda s: s.scalar(filtered)),
            "asyncpg": lambda: ways.bare(
                lambda c: c.fetchrow("SELECT * FROM owned WHERE id=$1 AND org_id=$2", owned, ORG)
            ),
        },
        "create one row": {
            "db": lambda: ways.ours(Item, lambda rows: rows.create(name="x", rank=-1)),
            "sqlalchemy": lambda: ways.theirs(lambda s: add(s, 1)),
            "asyncpg": lambda: ways.bare(lambda c: c.execute(insert, uuid7(), "x", -1)),
        },
        f"create {BATCH} rows": {
            "db": lambda: ways.ours(Item, lambda rows: rows.create_many(many)),
            "sqlalchemy": lambda: ways.theirs(lambda s: add(s, BATCH)),
            "asyncpg": lambda: ways.bare(
                lambda c: c.executemany(insert, [(uuid7(), "x", -1) for _ in range(BATCH)])
            ),
        },
        f"list {BATCH} rows": {
            "db": lambda: ways.ours(Item, lambda rows: rows.list(sort="rank", limit=BATCH)),
            "sqlalchemy": lambda: ways.theirs(lambda s: s.scalars(first)),
            "asyncpg": lambda: ways.bare(
                lambda c: c.fetch(f"SELECT * FROM item ORDER BY rank, id LIMIT {BATCH}")
            ),
        },
    }


async def medians(ways: Mapping[str, Call], rounds: int, calls: int) -> dict[str, float]:
    """Milliseconds a call, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, call in ways.items():
            began = time.perf_counter()
            for _ in range(calls):
                await call()
            if number:  # the first round warms up
                times[name].append((time.perf_counter() - began) * 1000 / calls)
    return {name: statistics.median(taken) for name, taken in times.items()}


async def pages(ways: Ways, rows: int, rounds: int) -> None:
    """A page at the beginning, in the middle and at the end, by offset and by cursor."""
    print(f"\npages of {SIZE} of {rows} rows, sorted by rank; offset pages count the total")
    print(f"{'page':>10} {'offset':>9} {'cursor':>9} {'ratio':>7}")
    for at in (1, rows // SIZE // 2, rows // SIZE - 1):
        cursor = await cursor_before(ways, at)
        measured = await medians(
            {
                "offset": lambda at=at: ways.ours(  # type: ignore[misc]
                    Item, lambda r: r.page(page=at, size=SIZE, sort="rank", rank__gte=0)
                ),
                "cursor": lambda cursor=cursor: ways.ours(  # type: ignore[misc]
                    Item,
                    lambda r: r.cursor_page(cursor=cursor, size=SIZE, sort="rank", rank__gte=0),
                ),
            },
            rounds,
            5,
        )
        offset, keyset = measured["offset"], measured["cursor"]
        print(f"{at:>10} {offset:>9.2f} {keyset:>9.2f} {offset / keyset:>6.1f}x")


async def cursor_before(ways: Ways, page: int) -> str | None:
    """The cursor of a page, found by asking for a page that ends where it begins."""
    if page == 1:
        return None
    skipped = (page - 1) * SIZE
    async with ways.database.session() as session:
        repository = Repository[Item](session)
        every = await repository.cursor_page(size=1, sort="rank", rank__gte=0)
        cursor = every.next
        while skipped > 1:
            step = min(skipped - 1, Repository.largest_page)
            cursor = (
                await repository.cursor_page(cursor=cursor, size=step, sort="rank", rank__gte=0)
            ).next
            skipped -= step
    return cursor


async def fill(ways: Ways, rows: int) -> tuple[Any, Any]:
    """The tables with their rows; a key of each."""
    async with ways.database.engine.begin() as connection:
        await connection.run_sync(BaseDBModel.metadata.create_all)
    async with ways.raw.acquire() as connection:
        values = [(uuid7(), "x", rank) for rank in range(rows)]
        await connection.copy_records_to_table(
            "item", records=values, columns=["id", "name", "rank"]
        )
        owned = [(uuid7(), "x", ORG) for _ in range(1000)]
        await connection.copy_records_to_table(
            "owned", records=owned, columns=["id", "name", "org_id"]
        )
        await connection.execute("ANALYZE")
    return values[rows // 2][0], owned[500][0]


async def measure(ways: Ways, rows: int, rounds: int) -> None:
    """Everything, printed."""
    key, owned = await fill(ways, rows)
    await pages(ways, rows, rounds)
    print("\nmilliseconds a call, and as a multiple of plain SQLAlchemy and of asyncpg")
    print(f"{'':>22} {'db':>8} {'sqlalchemy':>11} {'asyncpg':>8} {'x SQLA':>7} {'x pg':>6}")
    for name, each in cases(ways, key, owned).items():
        found = await medians(each, rounds, 1 if str(BATCH) in name else CALLS)
        ours, plain, bare = found["db"], found["sqlalchemy"], found["asyncpg"]
        print(
            f"{name:>22} {ours:>8.2f} {plain:>11.2f} {bare:>8.2f} {ours / plain:>7.2f} "
            f"{ours / bare:>6.2f}"
        )
    async with ways.database.session() as session:
        assert (
            await session.scalar(select(func.count()).select_from(Item).where(Item.rank >= 0))
            == rows
        )


async def main() -> None:
    """Start the server and the three ways to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    async with (
        EmbeddedPostgres() as server,
        Database(server.url) as database,
        asyncpg.create_pool(server.dsn, min_size=1, max_size=2) as raw,
    ):
        engine = create_async_engine(server.url)
        plain = async_sessionmaker(engine, expire_on_commit=False)
        await measure(Ways(database, plain, raw), options.rows, options.rounds)
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())

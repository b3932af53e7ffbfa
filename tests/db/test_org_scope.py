# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`org_scope`: whatever a session is asked, it reads and writes one organisation's rows only.

Two organisations hold rows of the same shape: `a1`, `a2` of A and `b1`, `b2` of B. A statement that
shows `b…` inside A's scope has leaked.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    Column,
    Executable,
    ForeignKey,
    MetaData,
    String,
    Table,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    literal_column,
    select,
    table,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import (
    Bundle,
    Mapped,
    Session,
    aliased,
    contains_eager,
    defer,
    immediateload,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    CrossOrgError,
    Database,
    MissingScopeError,
    OrgScopedMixin,
    ScopeError,
    UnscopedStatementError,
    close_engine,
    current_org,
    get_engine,
    get_session,
    init_engine,
    org_scope,
    unscoped,
)
from tests.conftest import Database as Server
from tests.conftest import execute

A, B = UUID(int=0xA), UUID(int=0xB)


class Books(BaseDBModel):
    """A base of these tests' own: its tables are nobody else's."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Country(Books):
    """Not scoped: all organisations share it."""

    __tablename__ = "books_country"
    name: Mapped[str]
    clients: Mapped[list["Client"]] = relationship(back_populates="country")


class Client(OrgScopedMixin, Books):
    __tablename__ = "books_client"
    name: Mapped[str]
    country_id: Mapped[UUID] = mapped_column(ForeignKey(Country.id))
    country: Mapped[Country] = relationship(back_populates="clients")
    bills: Mapped[list["Bill"]] = relationship(back_populates="client", order_by="Bill.number")


class Bill(OrgScopedMixin, Books):
    __tablename__ = "books_bill"
    number: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str] = mapped_column(default="bill")
    client_id: Mapped[UUID | None] = mapped_column(ForeignKey(Client.id))
    client: Mapped[Client | None] = relationship(back_populates="bills")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "bill"}  # noqa: RUF012


class Reminder(Bill):
    """A subclass with a table of its own."""

    __tablename__ = "books_reminder"
    id: Mapped[UUID] = mapped_column(ForeignKey(Bill.id), primary_key=True)
    level: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "reminder"}  # noqa: RUF012


BILL, CLIENT, COUNTRY = Bill.__table__, Client.__table__, Country.__table__


@pytest.fixture(scope="module")
def tables(postgres: Server) -> Iterator[Server]:
    """One database for the file: making one for each test would take longer than the tests."""
    name = f"test_{secrets.token_hex(6)}"
    there = postgres.named(name)

    async def make() -> None:
        await execute(postgres, f'CREATE DATABASE "{name}"')
        async with Database(there.url) as made, made.engine.begin() as connection:
            await connection.run_sync(Books.metadata.create_all)

    asyncio.run(make())
    yield there
    asyncio.run(execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(autouse=True)
async def books(tables: Server) -> AsyncIterator[None]:
    """Both organisations' rows, one country each."""
    await execute(tables, "TRUNCATE books_country CASCADE")
    init_engine(tables.url, pool_size=2, max_overflow=2)
    with unscoped():
        async with get_session() as session:
            for org, letter in ((A, "a"), (B, "b")):
                client = Client(org_id=org, name=f"{letter}0", country=Country(name=letter))
                session.add(client)
                bills = [Bill(org_id=org, number=f"{letter}{n}", client=client) for n in (1, 2)]
                session.add_all(bills)
    yield
    await close_engine()


async def everything(model: Any = Bill, attribute: str = "number") -> dict[str, Any]:
    """What is really in the table: one attribute by number (or name)."""
    key = getattr(model, "number", None) or model.name
    async with get_engine().connect() as connection:
        rows = await connection.execute(
            select(inspect(model).local_table.c[key.key], inspect(model).local_table.c[attribute])
        )
        return dict(sorted(tuple(row) for row in rows))


async def bill_id(number: str) -> UUID:
    return UUID(str((await everything(Bill, "id"))[number]))


def shown(rows: Any) -> list[str]:
    """Every string in the rows, in order: the numbers and names that a statement has shown."""
    return sorted(str(value) for row in rows for value in row)


# What is filtered

other = aliased(Bill)
nested = select(Bill.number).subquery()
common = select(Bill.number, Bill.client_id).cte("those")
numbers_of_client = (
    select(func.string_agg(Bill.number, literal(" ").op("ORDER BY")(Bill.number)))
    .where(Bill.client_id == Client.id)
    .scalar_subquery()
)

FILTERED: dict[str, tuple[Executable, list[str]]] = {
    "columns": (select(Bill.number), ["a1", "a2"]),
    "bundle": (select(Bundle("b", Bill.number)), ["('a1',)", "('a2',)"]),
    "count of the model": (select(func.count()).select_from(Bill), ["2"]),
    "count of a column": (select(func.count(Bill.id)), ["2"]),
    "sum": (select(func.sum(Bill.amount)), ["2"]),
    "alias": (select(other.number), ["a1", "a2"]),
    "self join": (
        select(Bill.number, other.number).join(other, Bill.amount == other.amount),
        ["a1", "a1", "a1", "a1", "a2", "a2", "a2", "a2"],
    ),
    "subquery in FROM": (select(nested.c.number), ["a1", "a2"]),
    "CTE": (select(common.c.number), ["a1", "a2"]),
    "CTE joined": (
        select(Client.name, common.c.number).join(common, common.c.client_id == Client.id),
        ["a0", "a0", "a1", "a2"],
    ),
    "lateral": (select(select(Client.name).lateral("l").c.name), ["a0"]),
    "scalar subquery": (select(Client.name, numbers_of_client), ["a0", "a1 a2"]),
    "scalar subquery of another model": (
        select(Country.name, select(func.count(Bill.id)).scalar_subquery()),
        ["2", "2", "a", "b"],
    ),
    "IN (SELECT)": (
        select(Country.name).where(Country.id.in_(select(Client.country_id))),
        ["a"],
    ),
    "EXISTS": (
        select(Country.name).where(exists().where(Client.country_id == Country.id)),
        ["a"],
    ),
    "EXISTS of a select": (
        select(Country.name).where(select(Client.id).where(Client.name == "b0").exists()),
        [],
    ),
    "relationship any()": (select(Country.name).where(Country.clients.any()), ["a"]),
    "relationship has()": (select(Bill.number).where(Bill.client.has()), ["a1", "a2"]),
    "join": (select(Country.name, Client.name).join(Client), ["a", "a0"]),
    "join along the relationship": (
        select(Country.name, Client.name).join(Country.clients),
        ["a", "a0"],
    ),
    "outer join": (
        select(Country.name, Client.name).outerjoin(Country.clients),
        ["None", "a", "a0", "b"],
    ),
    "two joins": (
        select(Country.name).join(Country.clients).join(Client.bills).distinct(),
        ["a"],
    ),
    "implicit join": (
        select(Country.name).where(Country.id == Client.country_id),
        ["a"],
    ),
    "union": (union_all(select(Bill.number), select(Client.name)), ["a0", "a1", "a2"]),
    "union in FROM": (
        select(union_all(select(Bill.number), select(Client.name)).subquery().c.number),
        ["a0", "a1", "a2"],
    ),
    "group by": (
        select(Bill.client_id.is_(None), func.count()).group_by(Bill.client_id),
        ["2", "False"],
    ),
    "window": (select(func.count().over()).select_from(Bill), ["2", "2"]),
    "order and limit": (select(Bill.number).order_by(Bill.number.desc()).limit(1), ["a2"]),
    "or": (select(Bill.number).where((Bill.number == "b1") | (Bill.number == "a1")), ["a1"]),
    "subclass": (select(Reminder.number), []),
    "polymorphic": (select(with_polymorphic(Bill, [Reminder]).number), ["a1", "a2"]),
    "FOR UPDATE": (select(Bill.number).with_for_update(), ["a1", "a2"]),
}


@pytest.mark.parametrize("way", FILTERED)
async def test_a_read_shows_the_rows_of_the_scope(way: str) -> None:
    """However the model is named in a select, the filter is there."""
    statement, expected = FILTERED[way]
    with org_scope(A):
        async with get_session() as session:
            assert shown(await session.execute(statement)) == expected


@pytest.mark.parametrize("way", FILTERED)
async def test_the_same_read_without_a_scope_fails_closed(way: str) -> None:
    """No scope, no rows: an error that says what to do."""
    async with get_session() as session:
        with pytest.raises(MissingScopeError, match=r"with org_scope\(org_id\)"):
            await session.execute(FILTERED[way][0])


async def test_a_statement_kept_from_one_scope_is_of_the_other_in_the_other() -> None:
    """The compiled statement is cached; the organisation in it is not."""
    seen = []
    for org in (A, B, A):
        with org_scope(org):
            async with get_session() as session:
                seen.append(shown(await session.execute(FILTERED["columns"][0])))
    assert seen == [["a1", "a2"], ["b1", "b2"], ["a1", "a2"]]


async def test_tasks_side_by_side_each_have_their_scope() -> None:
    """A scope belongs to its task, whatever else runs between its awaits."""

    async def numbers(org: UUID) -> list[str]:
        with org_scope(org):
            async with get_session() as session:
                return shown(await session.execute(select(Bill.number)))

    seen = await asyncio.gather(*(numbers(org) for org in (A, B) * 10))
    assert seen == [["a1", "a2"], ["b1", "b2"]] * 10


LOADERS = {
    "selectinload": selectinload,
    "joinedload": joinedload,
    "subqueryload": subqueryload,
    "immediateload": immediateload,
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
async def test_eager_loads_are_filtered(loader: Any) -> None:
    """A shared row brings only this organisation's rows along."""
    with org_scope(A):
        async with get_session() as session:
            query = select(Country).options(loader(Country.clients))
            found = (await session.scalars(query)).unique().all()
            loaded = {c.name: [client.name for client in c.clients] for c in found}
    assert loaded == {"a": ["a0"], "b": []}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
async def test_eager_loads_without_a_scope_fail_closed(loader: Any) -> None:
    """A shared row is free to read; what hangs on it is not."""
    async with get_session() as session:
        with pytest.raises(MissingScopeError, match="Client"):
            (await session.scalars(select(Country).options(loader(Country.clients)))).unique().all()


async def test_contains_eager_is_filtered() -> None:
    """A join that is written out and loaded from is filtered like any."""
    with org_scope(A):
        async with get_session() as session:
            query = select(Country).join(Country.clients).options(contains_eager(Country.clients))
            found = (await session.scalars(query)).unique().all()
            assert [(c.name, [x.name for x in c.clients]) for c in found] == [("a", ["a0"])]


async def test_lazy_loads_are_filtered() -> None:
    """So is a collection that is loaded when it is first looked at."""

    def names(session: Session) -> dict[str, list[str]]:
        return {c.name: [x.name for x in c.clients] for c in session.scalars(select(Country))}

    with org_scope(A):
        async with get_session() as session:
            assert await session.run_sync(names) == {"a": ["a0"], "b": []}


async def test_a_lazy_load_outside_of_the_scope_fails_closed() -> None:
    """A session that serves an organisation still asks for the scope at each use."""
    async with get_session() as session:
        with org_scope(A):
            (client,) = await session.scalars(select(Client))
        with pytest.raises(MissingScopeError, match="Bill"):
            await session.run_sync(lambda _: client.bills)


async def test_a_reference_to_another_organisations_row_loads_nothing() -> None:
    """A foreign key that points across leads nowhere, rather than across."""
    theirs = (await everything(Client, "id"))["b0"]
    async with get_engine().begin() as connection:
        await connection.execute(update(BILL).values(client_id=theirs))
    with org_scope(A):
        async with get_session() as session:
            query = select(Bill).options(joinedload(Bill.client))
            assert [bill.client for bill in await session.scalars(query)] == [None, None]


async def test_a_deferred_column_is_loaded_in_scope_only() -> None:
    """Reading a deferred column later is a read of its own."""
    async with get_session() as session:
        with org_scope(A):
            bill = (await session.scalars(select(Bill).options(defer(Bill.amount)))).first()
            assert bill is not None
        with pytest.raises(MissingScopeError):
            await session.refresh(bill, ["amount"])
        with org_scope(A):
            await session.refresh(bill, ["amount"])
            assert bill.amount == 1
            assert (await session.scalars(select(Bill).options(undefer(Bill.amount)))).all()


async def test_a_subclass_of_a_scoped_model_is_scoped() -> None:
    """Rows of a joined-table subclass carry the id and the filter of their parent's table."""
    for org, number in ((A, "a3"), (B, "b3")):
        with org_scope(org):
            async with get_session() as session:
                session.add(Reminder(number=number))
    with org_scope(A):
        async with get_session() as session:
            assert shown(await session.execute(select(Reminder.number))) == ["a3"]
            assert shown(await session.execute(select(Bill.number))) == ["a1", "a2", "a3"]
    assert (await everything(Bill, "org_id"))["b3"] == B


async def test_the_legacy_query_is_filtered() -> None:
    """`session.query` inside run_sync is under the same rule."""

    def numbers(session: Session) -> list[str]:
        return [
            *sorted(bill.number for bill in session.query(Bill)),
            str(session.query(Bill).count()),
        ]

    with org_scope(A):
        async with get_session() as session:
            assert await session.run_sync(numbers) == ["a1", "a2", "2"]
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.run_sync(numbers)


async def test_a_stream_is_filtered() -> None:
    """Rows that arrive one by one are the scope's."""
    with org_scope(A):
        async with get_session() as session:
            rows = [row async for row in await session.stream(select(Bill.number))]
    assert shown(rows) == ["a1", "a2"]


# What is refused: leaks 1 and 2, tables without their model and text

REFUSED: dict[str, Executable] = {
    "update from another model": update(Bill).where(Bill.client_id == Client.id).values(amount=9),
    "delete using another model": delete(Bill).where(Bill.client_id == Client.id),
    "table": select(BILL),
    "column of the table": select(BILL.c.number),
    "count of the table": select(func.count()).select_from(BILL),
    "count of the table's column": select(func.count(BILL.c.id)),
    "alias of the table": select(BILL.alias().c.number),
    "sample of the table": select(BILL.tablesample(100).c.number),
    "table's name": select(column("number")).select_from(table("books_bill", column("number"))),
    "table made by hand": select(Table("books_bill", MetaData(), Column("number", String))),
    "copy of the table": select(BILL.to_metadata(MetaData())),
    "keys of the table": select(*BILL.primary_key, literal(None)),
    "keys of the model beside the table": select(*BILL.primary_key, literal(None))
    .select_from(Bill)
    .where(CLIENT.c.id == Bill.client_id),
    "subquery of the table": select(select(BILL.c.number).subquery().c.number),
    "CTE of the table": select(select(BILL.c.number).cte().c.number),
    "table beside a model": select(Client.name, BILL.c.number),
    "table joined to a model": select(Country.name).join(CLIENT, CLIENT.c.country_id == Country.id),
    "join of tables": select(COUNTRY.join(CLIENT)),
    "model of a table's subquery": select(aliased(Bill, select(BILL).subquery())),
    "scalar subquery of the table": select(
        Country.name, select(func.count()).select_from(BILL).scalar_subquery()
    ),
    "EXISTS on the table": select(Country.name).where(
        exists().where(CLIENT.c.country_id == Country.id)
    ),
    "table in IN": select(Country.name).where(Country.id.in_(select(CLIENT.c.country_id))),
    "union with the table": union_all(select(Country.name), select(BILL.c.number)),
    "text": text("SELECT number FROM books_bill"),
    "quoted and qualified text": text('SELECT number FROM "public"."books_bill"'),
    "text in capitals": text("SELECT number FROM BOOKS_BILL"),
    "text of an update": text("UPDATE books_bill SET amount = 0"),
    "text with columns": text("SELECT number FROM books_bill").columns(column("number")),
    "model from text": select(Bill).from_statement(text("SELECT * FROM books_bill")),
    "other model from text": select(Country).from_statement(
        text("SELECT id, number AS name, created_at, updated_at FROM books_bill")
    ),
    "text in WHERE": select(Country.name).where(text("EXISTS (SELECT FROM books_bill)")),
    "text in ORDER BY": select(Country.name).order_by(text("(SELECT max(number) FROM books_bill)")),
    "text in FROM": select(text("number")).select_from(text("books_bill")),
    "text as a column": select(text("(SELECT max(number) FROM books_bill)")),
    "text as a prefix": select(Country.name).prefix_with(
        text("(SELECT max(number) FROM books_bill),")
    ),
    "text as a suffix": select(Country.name).suffix_with(
        text("UNION ALL SELECT number FROM books_bill")
    ),
    "literal column": select(literal_column("(SELECT max(number) FROM books_bill)")),
    "update of the table": update(BILL).values(amount=0),
    "delete of the table": delete(BILL),
    "insert into the table": insert(BILL).values(id=uuid4(), org_id=B, number="x"),
    "insert from the table": insert(Country).from_select(
        ["id", "name"], select(BILL.c.id, BILL.c.number)
    ),
    "insert from the model": insert(Country).from_select(
        ["id", "name"], select(Bill.id, Bill.number)
    ),
    "insert of a subquery's value": insert(Country).values(
        id=uuid4(), name=select(func.max(Bill.number)).scalar_subquery()
    ),
    "delete in a CTE": select(delete(Bill).returning(Bill.number).cte().c.number),
    "update in a CTE": select(update(Bill).values(amount=0).returning(Bill.id).cte().c.id),
    "insert in a CTE": select(
        insert(Bill).values(id=uuid4(), org_id=B, number="x").returning(Bill.id).cte().c.id
    ),
    "delete in a CTE that is added": select(Country.name).add_cte(delete(Bill).cte()),
    "table in a model's update": update(Country)
    .values(name="x")
    .where(Country.id == CLIENT.c.country_id),
}


@pytest.mark.parametrize("way", REFUSED)
async def test_what_cannot_be_filtered_is_refused(way: str) -> None:
    """A bare table or text that names a scoped one is an error that says what to write instead."""
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(UnscopedStatementError, match=r"org_filtered=True"):
                await session.execute(REFUSED[way])
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]
    assert set((await everything(Bill, "amount")).values()) == {1}


@pytest.mark.parametrize("way", REFUSED)
async def test_what_cannot_be_filtered_is_refused_without_a_scope(way: str) -> None:
    """Outside of a scope such a statement would read all organisations: refused, too."""
    async with get_session() as session:
        with pytest.raises(ScopeError):
            await session.execute(REFUSED[way])
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


async def test_an_author_may_vouch_for_a_statement() -> None:
    """`org_filtered=True` lets a statement through that filters by itself."""
    query = text("SELECT number FROM books_bill WHERE org_id = :org").bindparams(org=A)
    with org_scope(A):
        async with get_session() as session:
            vouched = query.execution_options(org_filtered=True)
            assert shown(await session.execute(vouched)) == ["a1", "a2"]


async def test_statements_on_shared_tables_pass_in_every_form() -> None:
    """The guard is about scoped tables: the others stay usable as SQLAlchemy has them."""
    passing = [
        select(COUNTRY.c.name),
        text("SELECT name FROM books_country"),
        select(Country.name).where(text("true")).order_by(literal_column("name")),
        select(column("name")).select_from(table("books_country")),
        select(Country.name).join(COUNTRY.alias("x"), literal(True)).distinct(),
    ]
    for statement in passing:
        async with get_session() as session:
            assert shown(await session.execute(statement)) == ["a", "b"]


# Leaks 3 and 4: the identity map, get and refresh


async def test_get_of_another_organisations_row_finds_nothing() -> None:
    """An id that was guessed or kept leads nowhere."""
    mine, theirs = await bill_id("a1"), await bill_id("b1")
    with org_scope(A):
        async with get_session() as session:
            assert await session.get(Bill, theirs) is None
            found = await session.get(Bill, mine)
            assert found is not None
            assert found.number == "a1"
            assert await session.get(Bill, mine) is found


async def test_get_without_a_scope_fails_closed_also_from_the_identity_map() -> None:
    """An object that is in memory already is under the same rule as one in the table."""
    mine = await bill_id("a1")
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.get(Bill, mine)
        with org_scope(A):
            kept = await session.get(Bill, mine)
            assert kept is not None
        with pytest.raises(MissingScopeError, match="Bill"):
            await session.get(Bill, mine)


async def test_a_session_refuses_another_scope() -> None:
    """What the identity map holds is one organisation's, so no other may look into it."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            assert await session.get(Bill, mine)
            with org_scope(B):
                for use in (
                    session.get(Bill, mine),
                    session.execute(select(Bill)),
                    session.execute(select(Country)),
                    session.execute(text("SELECT 1")),
                ):
                    with pytest.raises(CrossOrgError, match="open another one with get_session"):
                        await use
                with pytest.raises(CrossOrgError):
                    session.add(Bill(number="b9"))
            assert await session.get(Bill, mine), "the session still serves its own"


async def test_refresh_needs_the_scope() -> None:
    """Refreshing reads the row again: in its scope, or not at all."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            bill = await session.get_one(Bill, mine)
            async with get_engine().begin() as connection:
                await connection.execute(update(BILL).values(amount=7))
            await session.refresh(bill)
            assert bill.amount == 7
    async with get_session() as session:
        with org_scope(A):
            bill = await session.get_one(Bill, mine)
        with pytest.raises(MissingScopeError):
            await session.refresh(bill)


async def test_refresh_of_a_row_that_moved_away_fails() -> None:
    """A row that was given to another organisation meanwhile is not read again."""
    mine = await bill_id("a1")
    with org_scope(A):
        async with get_session() as session:
            bill = await session.get_one(Bill, mine)
            async with get_engine().begin() as connection:
                await connection.execute(update(BILL).values(org_id=B, amount=7))
            with pytest.raises(Exception, match="Could not refresh"):
                await session.refresh(bill)


async def test_an_object_of_another_organisation_cannot_be_attached() -> None:
    """Objects carried over from another scope's session are refused: added, merged or deleted."""
    with org_scope(B):
        async with get_session() as session:
            theirs = (await session.scalars(select(Bill))).first()
            assert theirs is not None
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError, match="serves the organisation"):
                session.add(theirs)
            with pytest.raises(CrossOrgError):
                await session.delete(theirs)
            with pytest.raises(CrossOrgError):
                await session.merge(theirs)
                await session.flush()
            await session.rollback()
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


async def test_merge_of_a_foreign_id_cannot_overwrite_the_row() -> None:
    """A payload with another organisation's id neither reads nor changes its row."""
    theirs = await bill_id("b1")
    with org_scope(A), pytest.raises(Exception, match="duplicate key"):
        async with get_session() as session:
            await session.merge(Bill(id=theirs, number="stolen", amount=0))
    assert await everything(Bill, "amount") == {"a1": 1, "a2": 1, "b1": 1, "b2": 1}


async def test_a_pickled_state_without_its_organisation_is_not_trusted() -> None:
    """An object that was loaded without org_id may be anybody's."""
    with org_scope(B):
        async with get_session() as session:
            query = select(Bill).options(defer(Bill.org_id))
            theirs = (await session.scalars(query)).first()
            assert theirs is not None
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError, match="not loaded with it"):
                session.add(theirs)


async def test_a_switch_of_scope_takes_a_session_each() -> None:
    """Blocks nest: the inner organisation has its own session, the outer one goes on after it."""
    with org_scope(A):
        async with get_session() as outer:
            assert shown(await outer.execute(select(Bill.number))) == ["a1", "a2"]
            with org_scope(B):
                async with get_session() as inner:
                    assert shown(await inner.execute(select(Bill.number))) == ["b1", "b2"]
            assert current_org() == A
            assert shown(await outer.execute(select(Bill.number))) == ["a1", "a2"]
    assert current_org() is None


async def test_a_session_may_learn_its_organisation() -> None:
    """Shared rows first, then the organisation that they lead to: one session, one transaction."""
    async with get_session() as session:
        assert shown(await session.execute(select(Country.name))) == ["a", "b"]
        with org_scope(A):
            session.add(Bill(number="a3"))
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_an_unscoped_session_sees_all_and_stays_so() -> None:
    """`unscoped` is for chores; its session is not handed to an organisation afterwards."""
    with unscoped():
        async with get_session() as session:
            seen = await session.execute(select(Bill.number))
            assert shown(seen) == ["a1", "a2", "b1", "b2"]
            assert shown(await session.execute(text("SELECT count(*) FROM books_bill"))) == ["4"]
            with org_scope(A), pytest.raises(CrossOrgError, match="serves all organisations"):
                await session.execute(select(Bill.number))


async def test_an_unscoped_session_needs_unscoped_at_each_use() -> None:
    """Past its block, reading fails closed again."""
    async with get_session() as session:
        with unscoped():
            await session.execute(select(Bill.number))
        with pytest.raises(MissingScopeError):
            await session.execute(select(Bill.number))


async def test_for_org_filters_where_no_scope_is() -> None:
    """The helper is the filter itself, to write by hand."""
    with unscoped():
        async with get_session() as session:
            rows = await session.execute(select(Bill.number).where(Bill.for_org(B)))
            assert shown(rows) == ["b1", "b2"]


def test_a_scope_of_nothing_is_refused() -> None:
    """None is no organisation: it must not turn into a filter that matches by accident."""
    with pytest.raises(ScopeError, match=r"use unscoped\(\)"), org_scope(None):
        pytest.fail("the block ran")


# Leak 5: inserts


async def test_a_new_row_gets_the_id_of_the_scope() -> None:
    """Nobody writes org_id by hand; it is there as soon as the object is added."""
    with org_scope(A):
        async with get_session() as session:
            bill = Bill(number="a3")
            session.add(bill)
            assert bill.org_id == A
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_a_new_row_of_another_organisation_is_refused() -> None:
    """When it is added, or, if the id is changed after that, when it is flushed."""
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(CrossOrgError):
                session.add(Bill(number="x", org_id=B))
        with pytest.raises(CrossOrgError):
            async with get_session() as session:
                bill = Bill(number="x")
                session.add(bill)
                bill.org_id = B
    assert "x" not in await everything()


async def test_a_row_cannot_be_moved_to_another_organisation() -> None:
    """Changing org_id of a loaded row is refused at the flush."""
    with org_scope(A), pytest.raises(CrossOrgError):
        async with get_session() as session:
            bill = (await session.scalars(select(Bill))).first()
            assert bill is not None
            bill.org_id = B
    assert set((await everything(Bill, "org_id")).values()) == {A, B}
    assert (await everything(Bill, "org_id"))["a1"] == A


async def test_a_new_row_without_a_scope_is_refused() -> None:
    """Also when it names an organisation: that may be anybody's."""
    async with get_session() as session:
        for bill in (Bill(number="x"), Bill(number="x", org_id=A)):
            with pytest.raises(MissingScopeError):
                session.add(bill)
    assert "x" not in await everything()


async def test_what_a_relationship_brings_along_is_checked() -> None:
    """A new row that reaches the session by cascade is under the same rule."""
    with org_scope(A):
        async with get_session() as session:
            client = (
                await session.scalars(select(Client).options(selectinload(Client.bills)))
            ).one()
            client.bills.append(Bill(number="a3"))
            with pytest.raises(CrossOrgError):
                client.bills.append(Bill(number="x", org_id=B))
            client.bills = [bill for bill in client.bills if bill.number != "x"]
    assert (await everything(Bill, "org_id"))["a3"] == A
    assert "x" not in await everything()


async def test_unscoped_inserts_must_name_their_organisation() -> None:
    """Without one there is no id to give."""
    with unscoped(), pytest.raises(MissingScopeError, match="Bill"):
        async with get_session() as session:
            session.add(Bill(number="x"))


MANY = [{"number": "a3"}, {"number": "a4"}]
INSERTS: dict[str, tuple[Executable, Any]] = {
    "values": (insert(Bill).values(number="a3"), None),
    "many values": (insert(Bill).values(MANY), None),
    "parameters": (insert(Bill), MANY),
    "one parameter": (insert(Bill), {"number": "a3"}),
    "returning": (insert(Bill).returning(Bill), MANY),
    "PostgreSQL's": (pg_insert(Bill).values(number="a3").on_conflict_do_nothing(), None),
    "own id": (insert(Bill).values(number="a3", org_id=A), None),
    "own id in parameters": (insert(Bill), [{"number": "a3", "org_id": A}]),
    "from select": (
        insert(Bill).from_select(["id", "number"], select(literal(uuid4()), literal("a3"))),
        None,
    ),
}


@pytest.mark.parametrize("way", INSERTS)
async def test_bulk_inserts_carry_the_id(way: str) -> None:
    """Every form of INSERT through the model gives the rows to the organisation in scope."""
    statement, parameters = INSERTS[way]
    with org_scope(A):
        async with get_session() as session:
            await session.execute(statement, parameters)
    owners = await everything(Bill, "org_id")
    assert {owner for number, owner in owners.items() if number in {"a3", "a4"}} == {A}


@pytest.mark.parametrize("way", INSERTS)
async def test_bulk_inserts_without_a_scope_fail_closed(way: str) -> None:
    """No scope, no id: nothing is written."""
    statement, parameters = INSERTS[way]
    with pytest.raises(MissingScopeError):
        async with get_session() as session:
            await session.execute(statement, parameters)
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


FOREIGN_INSERTS: dict[str, tuple[Executable, Any]] = {
    "values": (insert(Bill).values(number="x", org_id=B), None),
    "values by column": (insert(Bill).values({Bill.number: "x", Bill.org_id: B}), None),
    "values by the table's column": (
        insert(Bill).values({BILL.c.number: "x", BILL.c.org_id: B}),
        None,
    ),
    "many values": (insert(Bill).values([{"number": "y"}, {"number": "x", "org_id": B}]), None),
    "many values by column": (
        insert(Bill).values([{Bill.number: "x", Bill.org_id: B}]),
        None,
    ),
    "parameters": (insert(Bill), [{"number": "x", "org_id": B}]),
    "second of the parameters": (
        insert(Bill),
        [{"number": "y", "org_id": A}, {"number": "x", "org_id": B}],
    ),
    "an expression": (insert(Bill).values(number="x", org_id=func.gen_random_uuid()), None),
    "a literal": (insert(Bill).values(number="x", org_id=literal(B)), None),
    "a placeholder": (
        insert(Bill).values(number="x", org_id=bindparam("whose")),
        [{"whose": B}],
    ),
    "null": (insert(Bill).values(number="x", org_id=None), None),
    "text of the id": (insert(Bill).values(number="x", org_id=str(B)), None),
    "from select": (
        insert(Bill).from_select(
            ["id", "number", "org_id"], select(literal(uuid4()), literal("x"), literal(B))
        ),
        None,
    ),
    "a subclass": (insert(Reminder), [{"number": "x", "org_id": B}]),
}


@pytest.mark.parametrize("way", FOREIGN_INSERTS)
async def test_bulk_inserts_of_another_organisation_are_refused(way: str) -> None:
    """No form of INSERT writes a row for somebody else."""
    statement, parameters = FOREIGN_INSERTS[way]
    with org_scope(A), pytest.raises(ScopeError):
        async with get_session() as session:
            await session.execute(statement, parameters)
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


def upsert(**values: Any) -> Any:
    return pg_insert(Bill).values(**values)


async def test_on_conflict_changes_only_rows_of_the_scope() -> None:
    """A key that another organisation holds is left as it is."""
    with org_scope(A):
        async with get_session() as session:
            for number in ("a1", "b1"):
                row = upsert(number=number, amount=9)
                await session.execute(
                    row.on_conflict_do_update(
                        index_elements=[Bill.number], set_={"amount": row.excluded.amount}
                    )
                )
    assert await everything(Bill, "amount") == {"a1": 9, "a2": 1, "b1": 1, "b2": 1}


async def test_on_conflict_keeps_its_own_condition() -> None:
    """The caller's WHERE holds beside the scope's."""
    with org_scope(A):
        async with get_session() as session:
            for number in ("a1", "b1"):
                row = upsert(number=number, amount=9)
                await session.execute(
                    row.on_conflict_do_update(
                        index_elements=[Bill.number],
                        set_={"amount": row.excluded.amount},
                        where=Bill.amount > 5,
                    )
                )
    assert set((await everything(Bill, "amount")).values()) == {1}


async def test_on_conflict_cannot_move_a_row() -> None:
    """The SET of an upsert may not name another organisation."""
    for given in (B, func.gen_random_uuid(), upsert().excluded.client_id):
        with org_scope(A), pytest.raises(CrossOrgError):
            async with get_session() as session:
                await session.execute(
                    upsert(number="a1").on_conflict_do_update(
                        index_elements=[Bill.number], set_={"org_id": given}
                    )
                )
    assert (await everything(Bill, "org_id"))["a1"] == A


async def test_the_same_upsert_in_two_scopes_serves_each() -> None:
    """Guarding a statement does not change the statement that was given."""
    row = upsert(number="b1", amount=9)
    statement = row.on_conflict_do_update(index_elements=[Bill.number], set_={"amount": 9})
    seen = []
    for org in (A, B):
        with org_scope(org):
            async with get_session() as session:
                await session.execute(statement)
        seen.append((await everything(Bill, "amount"))["b1"])
    assert seen == [1, 9]


async def test_the_legacy_bulk_methods_are_refused() -> None:
    """They go past every hook; the message names what to use."""
    with org_scope(A):
        async with get_session() as session:
            for call in (
                lambda s: s.bulk_save_objects([Bill(number="x", org_id=B)]),
                lambda s: s.bulk_insert_mappings(Bill, [{"number": "x", "org_id": B}]),
                lambda s: s.bulk_update_mappings(Bill, [{"id": uuid4(), "amount": 0}]),
            ):
                with pytest.raises(UnscopedStatementError, match=r"insert\(Bill\)"):
                    await session.run_sync(call)
            await session.run_sync(
                lambda s: s.bulk_insert_mappings(Country, [{"id": uuid4(), "name": "c"}])
            )
            await session.run_sync(lambda s: s.bulk_save_objects([Country(name="d")]))
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]
    assert list(await everything(Country, "name")) == ["a", "b", "c", "d"]


# Updates and deletes

UPDATES: dict[str, Executable] = {
    "all": update(Bill).values(amount=9),
    "ordered": update(Bill).ordered_values((Bill.amount, 9)),
    "where": update(Bill).where(Bill.number.in_(["a1", "a2", "b1", "b2"])).values(amount=9),
    "returning": update(Bill).values(amount=9).returning(Bill),
    "no synchronisation": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session=False),
    "from a subquery": update(Bill)
    .where(Bill.client_id.in_(select(Client.id)))
    .values(amount=9)
    .execution_options(synchronize_session=False),
    "that Python can't evaluate": update(Bill)
    .where(Bill.client_id.in_(select(Client.id)))
    .values(amount=9),
    "with fetched keys": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session="fetch"),
    "evaluated in Python": update(Bill)
    .values(amount=9)
    .execution_options(synchronize_session="evaluate"),
}


@pytest.mark.parametrize("way", UPDATES)
async def test_bulk_updates_change_only_rows_of_the_scope(way: str) -> None:
    """An UPDATE without a WHERE is still one organisation's."""
    with org_scope(A):
        async with get_session() as session:
            await session.execute(UPDATES[way])
    assert await everything(Bill, "amount") == {"a1": 9, "a2": 9, "b1": 1, "b2": 1}


DELETES: dict[str, Executable] = {
    "all": delete(Bill),
    "where": delete(Bill).where(Bill.amount == 1),
    "returning": delete(Bill).returning(Bill.number),
}


@pytest.mark.parametrize("way", DELETES)
async def test_bulk_deletes_remove_only_rows_of_the_scope(way: str) -> None:
    """A DELETE without a WHERE is still one organisation's."""
    with org_scope(A):
        async with get_session() as session:
            await session.execute(DELETES[way])
    assert list(await everything()) == ["b1", "b2"]


@pytest.mark.parametrize("way", [*UPDATES, *(f"delete: {way}" for way in DELETES)])
async def test_bulk_changes_without_a_scope_fail_closed(way: str) -> None:
    """No scope, no change."""
    statement = UPDATES.get(way)
    if statement is None:
        statement = DELETES[way.removeprefix("delete: ")]
    async with get_session() as session:
        with pytest.raises(MissingScopeError):
            await session.execute(statement)
    assert set((await everything(Bill, "amount")).values()) == {1}
    assert list(await everything()) == ["a1", "a2", "b1", "b2"]


READING_CHANGES: dict[str, Executable] = {
    "update by a second model": update(Country)
    .values(name="changed")
    .where(Country.id == Client.country_id),
    "update by a subquery": update(Country)
    .values(name="changed")
    .where(Country.id.in_(select(Client.country_id))),
    "update by EXISTS": update(Country)
    .values(name="changed")
    .where(exists().where(Client.country_id == Country.id)),
    "update by a relationship": update(Country).values(name="changed").where(Country.clients.any()),
}


@pytest.mark.parametrize("way", READING_CHANGES)
async def test_a_change_of_shared_rows_reads_only_rows_of_the_scope(way: str) -> None:
    """What decides about a shared row is this organisation's, or the statement is refused."""
    statement = READING_CHANGES[way].execution_options(synchronize_session=False)
    with org_scope(A):
        async with get_session() as session:
            try:
                await session.execute(statement)
            except UnscopedStatementError:
                await session.rollback()
    assert "b" in await everything(Country, "name")


@pytest.mark.parametrize("way", ["auto", "fetch", "evaluate"])
@pytest.mark.parametrize("found", [select(Client.id), select(CLIENT.c.id)])
async def test_loaded_objects_follow_a_bulk_change(way: Any, found: Any) -> None:
    """The session's objects show what a bulk change made of them, and forget what it deleted;
    a bare table in its conditions stays refused, whatever the way of synchronising."""
    change = update(Bill).values(amount=9)
    if way != "evaluate":
        change = change.where(Bill.client_id.in_(found))
    refused = way != "evaluate" and found.columns_clause_froms[0] is CLIENT
    with org_scope(A):
        async with get_session() as session:
            bills = (await session.scalars(select(Bill).order_by(Bill.number))).all()
            if refused:
                with pytest.raises(UnscopedStatementError):
                    await session.execute(change.execution_options(synchronize_session=way))
                return
            await session.execute(change.execution_options(synchronize_session=way))
            assert [bill.amount for bill in bills] == [9, 9]
            gone = delete(Bill).where(Bill.number == "a1")
            await session.execute(gone.execution_options(synchronize_session=way))
            assert [bill in session for bill in bills] == [False, True]
    assert list(await everything()) == ["a2", "b1", "b2"]


async def test_keys_that_are_selected_from_the_model_are_filtered() -> None:
    """The one bare form that passes, as a bulk change's own, is within the filter's reach."""
    with org_scope(A):
        async with get_session() as session:
            keys = select(*BILL.primary_key, literal(None)).select_from(Bill)
            assert len((await session.execute(keys)).all()) == 2


async def test_a_changed_value_does_not_come_from_another_organisation() -> None:
    """A value computed from scoped rows is computed from the scope's."""
    highest = select(func.max(Bill.number)).scalar_subquery()
    with org_scope(A):
        async with get_session() as session:
            try:
                await session.execute(
                    update(Country)
                    .values(name=highest)
                    .execution_options(synchronize_session=False)
                )
            except UnscopedStatementError:
                await session.rollback()
    assert "b2" not in await everything(Country, "name")


async def test_returning_does_not_show_another_organisations_rows() -> None:
    """RETURNING a second model of an UPDATE ... FROM shows the scope's rows, or is refused."""
    statement = (
        update(Country)
        .values(name=Country.name)
        .where(Country.id == Client.country_id)
        .returning(Client.name)
        .execution_options(synchronize_session=False)
    )
    seen: list[str] = []
    with org_scope(A):
        async with get_session() as session:
            try:
                seen = shown(await session.execute(statement))
            except UnscopedStatementError:
                await session.rollback()
    assert "b0" not in seen


async def test_an_update_cannot_move_rows() -> None:
    """SET org_id is refused in every form, unless it is the scope's own."""
    moves: list[tuple[Any, Any]] = [
        (update(Bill).values(org_id=B), None),
        (update(Bill).values({Bill.org_id: B}), None),
        (update(Bill).ordered_values((Bill.org_id, B)), None),
        (update(Bill).values(org_id=func.gen_random_uuid()), None),
        (update(Bill), {"org_id": B}),
    ]
    for statement, parameters in moves:
        with org_scope(A), pytest.raises(CrossOrgError):
            async with get_session() as session:
                await session.execute(statement, parameters)
    with org_scope(A):
        async with get_session() as session:
            await session.execute(update(Bill).values(org_id=A))
    assert list((await everything(Bill, "org_id")).values()) == [A, A, B, B]


async def test_a_bulk_update_by_primary_key_is_refused() -> None:
    """It has no place for a filter: a guessed id would change another organisation's row."""
    rows = [{"id": await bill_id("b1"), "amount": 9}]
    with org_scope(A):
        async with get_session() as session:
            with pytest.raises(UnscopedStatementError, match=r"update\(Bill\)\.where"):
                await session.execute(update(Bill), rows)
    assert set((await everything(Bill, "amount")).values()) == {1}


async def test_a_flush_after_the_block_is_still_the_organisations() -> None:
    """The commit at the session's end may come after the scope's."""
    async with get_session() as session:
        with org_scope(A):
            session.add(Bill(number="a3"))
            bill = (await session.scalars(select(Bill).where(Bill.number == "a1"))).one()
        bill.amount = 5
    assert (await everything(Bill, "amount"))["a1"] == 5
    assert (await everything(Bill, "org_id"))["a3"] == A


async def test_a_delete_of_a_loaded_row_works_in_scope() -> None:
    """The unit of work deletes what it loaded."""
    with org_scope(A):
        async with get_session() as session:
            await session.delete((await session.scalars(select(Bill).limit(1))).one())
    assert len(await everything()) == 3

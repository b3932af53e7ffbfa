# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What no filter can be added to is refused: leaks 1 and 2, tables without their model and text."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import (
    Column,
    Executable,
    MetaData,
    String,
    Table,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy import join as sql_join
from sqlalchemy.orm import (
    Mapped,
    aliased,
    join,
    outerjoin,
)

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    ScopeError,
    UnscopedStatementError,
    get_engine,
    get_session,
    org_scope,
)
from forktex_core.db.statement_guard import bare_use
from tests.db.books import (
    BILL,
    CLIENT,
    COUNTRY,
    A,
    B,
    Bill,
    Client,
    Country,
    Reminder,
    everything,
    shown,
)

pytestmark = pytest.mark.usefixtures("books")

ANOTHER = CLIENT.alias()
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
    "keys of the model and the table": select(*BILL.primary_key, literal(None)).select_from(
        Bill, CLIENT
    ),
    "another table's column from the model": select(CLIENT.c.name, literal(None)).select_from(Bill),
    "alias of the table beside a model": select(Client.name, BILL.alias().c.number),
    "alias of the table joined to a model": select(Country.name).join(
        ANOTHER, ANOTHER.c.country_id == Country.id
    ),
    "table joined to a model on nothing": select(Country.name).join(CLIENT, true()),
    "table on the right of a join": select(Country.name).select_from(join(Country, CLIENT, true())),
    "table on the left of a join": select(Country.name).select_from(join(CLIENT, Country, true())),
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
    "table of a subclass": select(Reminder.__table__.c.level),
    "text that names a subclass's table": text("SELECT level FROM books_reminder"),
    "text that names a table with capitals": text('SELECT id FROM "Books_Receipt"'),
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


BESIDE = aliased(Client)
WRITTEN_OUT: dict[str, Any] = {
    "model": join(Country, Client),
    "model along the relationship": join(Country, Client, Country.clients),
    "outer": outerjoin(Country, Client),
    "alias": join(Country, BESIDE),
    "subclass": join(Country, Reminder, true()),
    "nested at the left": join(join(Country, Client), Country, true()),
    "nested twice": join(join(Country, Client, Country.clients), Bill, Client.bills),
    "nested at the right": join(Country, join(Client, Bill), true()),
    "scoped at the left of all": join(join(Client, Country), Bill, Client.bills),
    "Core's": sql_join(Country, Client),
    "Core's, scoped at the left": sql_join(Client, Country),
    "Core's inside the ORM's": join(sql_join(Client, Country), Country, true()),
    "Core's inside, at the right": join(Country, sql_join(Country, Client), true()),
}


async def answer(statement: Executable) -> list[str]:
    """What a session of its own shows, or that it refuses."""
    async with get_session() as session:
        try:
            return shown(await session.execute(statement))
        except UnscopedStatementError:
            await session.rollback()
            return ["refused"]


@pytest.mark.parametrize("columns", [(), (Client.name,)], ids=["alone", "with its column"])
@pytest.mark.parametrize("way", WRITTEN_OUT)
async def test_joins_that_are_written_out_do_not_leak(way: str, columns: tuple[Any, ...]) -> None:
    """The loader criterion reaches only a part of them. Whether they are filtered or refused, what
    another organisation holds changes nothing in what is shown."""
    whole = select(Country.name, *columns).select_from(WRITTEN_OUT[way])
    forms: list[Executable] = [
        whole,
        select(whole.subquery().c[0]),
        select(func.count()).select_from(WRITTEN_OUT[way]),
        select(Country.name, exists().select_from(WRITTEN_OUT[way]).where(Client.name == "b0")),
    ]
    with org_scope(A):
        beside_another = [await answer(form) for form in forms]
        async with get_engine().begin() as connection:
            await connection.execute(delete(BILL).where(BILL.c.org_id == B))
            await connection.execute(delete(CLIENT).where(CLIENT.c.org_id == B))
        assert [await answer(form) for form in forms] == beside_another


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


class Elsewhere(BaseDBModel):
    """Another service's models, in another database."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Namesake(Elsewhere):
    """A shared table whose name is that of a scoped one here."""

    __tablename__ = "books_bill"
    number: Mapped[str]


class Other(Elsewhere):
    __tablename__ = "books_other"
    number: Mapped[str]


def test_a_shared_model_with_a_scoped_ones_name_is_not_refused() -> None:
    """A model is known for what it is; only a bare table is judged by its name."""
    change = update(Other).values(number="x").where(Other.number == Namesake.number)
    assert bare_use(change) is None
    assert bare_use(select(Namesake).join(Other, Other.number == Namesake.number)) is None
    assert bare_use(select(Namesake.__table__)) == "Bill"

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The models of the tests of `org_scope`: a session reads and writes one organisation's rows only.

Two organisations hold rows of the same shape: `a1`, `a2` of A and `b1`, `b2` of B. A statement that
shows `b…` inside A's scope has leaked.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    MetaData,
    inspect,
    select,
)
from sqlalchemy.orm import (
    Mapped,
    mapped_column,
    relationship,
)

from forktex_core.db import (
    NAMING_CONVENTION,
    BaseDBModel,
    OrgScopedMixin,
    get_engine,
)

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


class Receipt(OrgScopedMixin, Books):
    """A table whose name has capitals."""

    __tablename__ = "Books_Receipt"


BILL, CLIENT, COUNTRY = Bill.__table__, Client.__table__, Country.__table__


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

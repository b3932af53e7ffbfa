# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Rows: made, read, changed, queried."""

from datetime import date
from decimal import Decimal

import pytest

from forktex_core.data import (
    DataStore,
    DecimalNumber,
    DuplicateError,
    Enum,
    Field,
    InvalidRowError,
    Q,
    Register,
    RevisionConflictError,
    RowQuery,
)


async def invoices(store: DataStore) -> Register:
    """Invoices, with customers that they refer to."""
    customers = await Register.create(
        "customers",
        tenant_id="a",
        store=store,
        fields=[Field("name", required=True), Field("country", indexed=True)],
    )
    made = await Register.create(
        "invoices",
        tenant_id="a",
        store=store,
        fields=[
            Field("number", unique=True, required=True, indexed=True),
            Field("status", Enum(["draft", "sent", "paid"]), default="draft", indexed=True),
            Field("amount", DecimalNumber(2), indexed=True),
            Field("issued_at", "date", indexed=True),
            Field("note", "long_text"),
        ],
        time_field="issued_at",
    )
    await made.add_relationship("customer", customers)
    return made


async def test_a_row_is_made_changed_and_read(store: DataStore) -> None:
    """What was given comes back in Python's form; the revision rises by one with a change."""
    register = await invoices(store)
    row = await register.insert(number="N1", amount="12.50", issued_at=date(2026, 1, 2))
    assert (row["number"], row["amount"], row["status"]) == ("N1", Decimal("12.50"), "draft")
    changed = await register.update(row.id, status="paid", if_revision=1)
    assert changed.revision == 2
    assert await register.get(row.id) == changed
    with pytest.raises(RevisionConflictError) as conflict:
        await register.update(row.id, status="sent", if_revision=1)
    assert conflict.value.current == changed


async def test_unique_values_are_held_by_one_row(store: DataStore) -> None:
    """The second row with the value is refused, and so is a change to it."""
    register = await invoices(store)
    await register.insert(number="N1")
    with pytest.raises(DuplicateError) as taken:
        await register.insert(number="N1")
    assert taken.value.fields == ("number",)
    other = await register.insert(number="N2")
    with pytest.raises(DuplicateError):
        await register.update(other.id, number="N1")
    await register.update(other.id, number="N3")
    await register.insert(number="N2")


async def test_every_problem_of_a_row_is_told_at_once(store: DataStore) -> None:
    """One error names the fields, what is wrong with each, and the near name of a misspelt one."""
    register = await invoices(store)
    with pytest.raises(InvalidRowError) as wrong:
        await register.insert(amount="twelve", status="lost", nubmer="N")
    assert {(each.path, each.code) for each in wrong.value.problems} == {
        ("number", "required"),
        ("amount", "value"),
        ("status", "value"),
        ("nubmer", "unknown"),
    }


async def test_the_query_of_the_readme(store: DataStore) -> None:
    """Filters, a relationship, a time, an order and a page behind a cursor."""
    register = await invoices(store)
    customers = Register.load("customers", tenant_id="a", store=store)
    ro = await customers.insert(name="Ana", country="RO")
    de = await customers.insert(name="Bert", country="DE")
    await register.insert_many(
        {
            "number": f"N{n}",
            "status": "paid" if n % 2 else "sent",
            "amount": n,
            "issued_at": date(2026, 1, n + 1),
            "customer": (ro if n < 20 else de).id,
        }
        for n in range(30)
    )
    query = (
        RowQuery(register)
        .where(Q(customer__country="RO") | Q(amount__gt=27), status="paid")
        .since(date(2026, 1, 5))
        .order_by("-issued_at")
        .include("customer")
    )
    first = await query.scroll(page_size=4)
    assert [row["number"] for row in first] == ["N29", "N19", "N17", "N15"]
    assert first.rows[1].included["customer"]["name"] == "Ana"
    second = await query.scroll(page_size=4, cursor=first.cursor)
    assert [row["number"] for row in second] == ["N13", "N11", "N9", "N7"]
    last = await query.scroll(page_size=4, cursor=second.cursor)
    assert [row["number"] for row in last] == ["N5"]
    assert (last.cursor, last.has_more) == (None, False)
    facets = await query.facet("status")
    assert [(each.value, each.count) for each in facets.fields["status"]] == [
        ("sent", 9),
        ("paid", 9),
    ]
    totals = await RowQuery(register).group_by("status").aggregate(total="sum:amount", n="count")
    assert [dict(each) for each in totals] == [
        {"status": "sent", "total": Decimal(210), "n": 15},
        {"status": "paid", "total": Decimal(225), "n": 15},
    ]

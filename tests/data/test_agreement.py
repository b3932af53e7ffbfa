# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""SQL and Python give the same answers: random rows, filters, orders and pages, by columns and by
payloads.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktex_core.data import (
    Boolean,
    DataStore,
    Date,
    DecimalNumber,
    Enum,
    Field,
    GeoPoint,
    Integer,
    Limits,
    Moment,
    MoneyField,
    MultiEnum,
    Q,
    Register,
    RowQuery,
    Text,
    Uuid,
)
from forktex_core.data.query.bound import Binder
from forktex_core.data.query.evaluate import Stored, holds
from forktex_core.data.query.filters import All, from_json, to_json
from forktex_core.data.query.order import order_keys, sort_rows
from forktex_core.data.query.postgres import PostgresReader

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WORDS = st.sampled_from(
    ["", "a", "A", "ab", "AB", "Ab c", "ß", "SS", "ss", "é", "É", "%", "_", "'"]
)
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "word": (Text(), WORDS),
    "whole": (Integer(), st.integers(-3, 3)),
    "exact": (DecimalNumber(2), st.sampled_from(["-1.50", "0", "0.1", "2.00", "10"])),
    "price": (
        MoneyField(),
        st.sampled_from(["1.00 EUR", "1.00 RON", "2.00 EUR"]),
    ),
    "flag": (Boolean(), st.booleans()),
    "day": (Date(), st.integers(0, 3).map(lambda n: (NOW + timedelta(days=n)).date())),
    "at": (Moment(), st.integers(-3, 3).map(lambda n: NOW + timedelta(days=n))),
    "state": (Enum(["z", "b", "a"]), st.sampled_from(["a", "b", "z"])),
    "tags": (MultiEnum(["x", "y", "z"]), st.lists(st.sampled_from(["x", "y", "z"]))),
    "key": (Uuid(), st.integers(0, 2).map(lambda n: f"00000000-0000-0000-0000-00000000000{n}")),
    "place": (
        GeoPoint(),
        st.sampled_from([{"lat": 44.4, "lon": 26.1}, {"lat": 46.8, "lon": 23.6}]),
    ),
}
SORTED = {name for name, (kind, _) in TYPES.items() if kind.kind is not None}
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={name: each for name, (_, each) in TYPES.items()}),
    max_size=12,
)


@st.composite
def conditions(draw: st.DrawFn) -> Q:
    """One comparison that its field knows."""
    name = draw(st.sampled_from(sorted(TYPES)))
    kind, values = TYPES[name]
    operator = draw(st.sampled_from(sorted(kind.operators)))
    if operator == "is_null":
        value: Any = draw(st.booleans())
    elif operator in {"in", "not_in"}:
        value = draw(st.lists(values, max_size=3))
    elif operator == "between":
        value = [draw(values), draw(values)]
    elif operator == "within":
        value = draw(st.sampled_from(["last 2 days", "next 1 week"]))
    elif operator == "near":
        value = {"lat": 44.4, "lon": 26.1, "km": draw(st.sampled_from([1, 1_000]))}
    elif operator == "regex":
        value = draw(st.sampled_from(["^a", "b$", "[A-Z]", "a|e", "."]))
    elif operator in {"contains", "icontains", "startswith", "istartswith"}:
        value = draw(WORDS.filter(bool))
    else:
        value = draw(values)
    return Q(**{f"{name}__{operator}": value})


FILTERS = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda one: ~one),
    ),
    max_leaves=6,
)
ORDERS = st.lists(
    st.tuples(st.sampled_from(sorted(SORTED)), st.booleans()).map(
        lambda pair: ("-" if pair[1] else "") + pair[0]
    ),
    max_size=3,
    unique_by=lambda name: name.strip("-"),
)


async def register_with(store: DataStore, *, indexed: bool) -> Register:
    """A register with every type, all in columns or all in payloads only."""
    name = "indexed" if indexed else "plain"
    return await Register.create(
        name,
        tenant_id="t",
        store=store,
        fields=[
            Field(field, kind, indexed=indexed and field in SORTED)
            for field, (kind, _) in TYPES.items()
        ],
    )


async def stored_rows(register: Register) -> list[Stored]:
    """Every row of a register as it lies there, by id."""
    reader = PostgresReader(register.store, register.tenant, None)
    made = await RowQuery(register)._request(anew=False)
    return await reader.rows(made)


@pytest.mark.parametrize("indexed", [True, False])
async def test_sql_selects_what_python_selects(store: DataStore, indexed: bool) -> None:
    """Filters of any shape select the same rows, in the same order, page by page."""
    register = await register_with(store, indexed=indexed)
    definition = await register.definition()
    columns = {each.name for each in definition.fields if each.ready}
    assert columns == (SORTED - {"state"} if indexed else set())  # four numbers have slots

    async def check(rows: list[dict[str, Any]], asked: list[Any], size: int) -> None:
        await clear(register)
        await register.insert_many(rows)
        there = await stored_rows(register)
        assert len(there) == len(rows)
        for where, order, nulls in asked:
            query = RowQuery(register).where(where).order_by(*order, nulls=nulls)
            bound = Binder({}, Limits(), datetime.now(UTC)).bind(definition, All(query.filters))
            keys = order_keys(definition, order, nulls)
            wanted = [row for row in there if holds(bound, row, lambda *_: None)]
            wanted = [row.id for row in sort_rows(keys, wanted)]
            assert [row.id for row in await query.all()] == wanted
            assert [row.id async for row in query.stream(size)] == wanted
            pages = [await query.page(n + 1, size) for n in range(len(wanted) // size + 1)]
            assert [row.id for page in pages for row in page] == wanted
            assert (await query.count()).value == len(wanted)

    asks = st.tuples(FILTERS, ORDERS, st.sampled_from(["first", "last"]))
    examples: list[tuple[Any, Any, int]] = []

    @settings(
        max_examples=10, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(ROWS, st.lists(asks, min_size=4, max_size=8), st.integers(1, 4))
    def collect(rows: list[dict[str, Any]], asked: list[Any], size: int) -> None:
        examples.append((rows, asked, size))

    collect()
    for rows, asked, size in examples:
        await check(rows, asked, size)


async def clear(register: Register) -> None:
    """Empty a register, past its API."""
    async with register.store.connection(None, "t") as connection:
        await connection.execute(f"TRUNCATE {register.store.table('row')}")


async def test_a_page_goes_on_where_the_first_key_is_null(store: DataStore) -> None:
    """Among rows without the first key, those without the second one come after the others."""
    register = await register_with(store, indexed=True)
    await register.insert_many([{"whole": 1}, {}, {"whole": 2}, {}])
    query = RowQuery(register).order_by("word", "whole")
    assert [row["whole"] async for row in query.stream(1)] == [1, 2, None, None]


@given(FILTERS)
def test_a_filter_survives_its_json_form(where: Q) -> None:
    """What `to_json` writes, `from_json` reads."""
    assert from_json(to_json(where.filter), Limits()) == where.filter


def test_a_decimal_never_passes_through_a_float() -> None:
    """All 38 digits come back."""
    kind = DecimalNumber(2)
    text = "123456789012345678901234567890123456.78"
    assert kind.restore(kind.coerce(text)) == Decimal(text)

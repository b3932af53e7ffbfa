# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The column that a rotation works on, in SQL: what is left, a page of it, its replacement.

The values of a batch are parameters and no part of a statement. SQLAlchemy's statements are full of
cycles: with the values in them, each batch would linger until Python's cycle collector comes by,
which it does seldom, for it counts objects and a batch is few of them, and large.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    Row,
    Select,
    Table,
    Text,
    Time,
    Update,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    inspect,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.exc import NoInspectionAvailable

from forktex_core.vault.blind_index import BlindIndex
from forktex_core.vault.payload import sanitized
from forktex_core.vault.token import ENVELOPE_LENGTH, MARK, prefix_of
from forktex_core.vault.vault import Vault

type Extract = Callable[[Any], str | bytes | None]
"""Finds in a payload the value that a blind index holds."""

BARE = "bare"
_NO_TEXT = (Integer, Numeric, Boolean, Date, DateTime, Time, Interval, Uuid, ARRAY)


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A blind index that is written along, and where its value is in the payload."""

    column: Column[Any]
    type: BlindIndex
    extract: Extract

    def digest(self, vault: Vault, payload: Any) -> str | None:
        """Return the digest of a payload's value under a vault's first key.

        Raises:
            PayloadError: `extract` failed on this payload.
        """
        value = sanitized(self.extract, payload)
        return None if value is None else str(self.type.digests_of(vault, value)[0])


@dataclass(frozen=True, slots=True)
class Fresh:
    """A row as it is to become: its key, the token that was read, the new one, the new digests."""

    key: tuple[Any, ...]
    was: str
    becomes: str
    digests: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Blobs:
    """One column of tokens. `text` is the token as text, whatever the column stores it in."""

    table: Table
    column: Column[Any]
    where: ColumnElement[bool]
    indexes: tuple[IndexColumn, ...]

    @classmethod
    def of(
        cls,
        table: Any,
        name: str,
        where: ColumnElement[bool] | None,
        index: Mapping[str, Extract],
    ) -> "Blobs":
        """Find the column of a mapped class or a Core table.

        Raises:
            ValueError: there is no such column or no primary key, or the column can't hold tokens.
            TypeError: `table` is neither a mapped class nor a table, or an index is no BlindIndex.
        """
        found = _find(table, name)
        if isinstance(found.type, LargeBinary):
            msg = (
                f"{found} is binary, tokens are text; change it first: ALTER TABLE … ALTER COLUMN "
                f"{found.name} TYPE text USING convert_from({found.name}, 'UTF8')"
            )
            raise ValueError(msg)
        if isinstance(found.type, _NO_TEXT):
            msg = f"{found} is of type {found.type}, which holds no tokens: these are text"
            raise ValueError(msg)
        if not found.table.primary_key.columns:
            msg = f"{found.table} has no primary key, by which rotation finds its rows"
            raise ValueError(msg)
        indexes = tuple(_index(_find(table, each), extract) for each, extract in index.items())
        return cls(found.table, found, true() if where is None else where, indexes)

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The primary key's columns."""
        return tuple(self.table.primary_key.columns)

    @property
    def text(self) -> ColumnElement[str]:
        """The stored token; of a JSON column, the string that it holds."""
        stored = type_coerce(self.column, Text)
        if isinstance(self.column.type, JSON):
            return stored.op("#>>", return_type=Text())(literal_column("'{}'"))
        return stored

    def left(self, fingerprint: str) -> ColumnElement[bool]:
        """Tell which rows aren't wholly on this key."""
        return self.where & or_(
            self.text.not_like(f"{prefix_of(fingerprint)}%"),
            *(
                type_coerce(index.column, Text).not_like(f"{fingerprint}:%")
                for index in self.indexes
            ),
        )

    def census(self) -> Select[Any]:
        """Count rows per fingerprint, as the envelopes name them."""
        enveloped = self.text.like(MARK + "_" * (ENVELOPE_LENGTH - len(MARK) - 1) + ":%")
        named = func.substr(self.text, len(MARK) + 1, ENVELOPE_LENGTH - len(MARK) - 1)
        fingerprint = case((enveloped, named), else_=BARE).label("fingerprint")
        return (
            select(fingerprint, func.count())
            .where(self.where, self.text.is_not(None))
            .group_by(fingerprint)
        )

    def measure_left(self, fingerprint: str) -> Select[Any, Any]:
        """Count the rows that aren't wholly on this key, and find the longest of their tokens."""
        longest = func.max(func.octet_length(self.text))
        return select(func.count(), longest).select_from(self.table).where(self.left(fingerprint))

    def page(self, fingerprint: str, *, first: bool, lock: bool) -> Select[Any]:
        """Select the next rows that are left, by primary key; `turn` gives its parameters.

        FOR NO KEY UPDATE is all that an UPDATE of this column needs: it keeps every writer of the
        row out, and lets others insert rows that refer to it.
        """
        page = select(*self.key, self.text).where(self.left(fingerprint))
        if not first:
            place = (bindparam(_name("after", i), type_=c.type) for i, c in enumerate(self.key))
            page = page.where(tuple_(*self.key) > tuple_(*place))
        page = page.order_by(*self.key).limit(bindparam(_name("size"), type_=Integer))
        return page.with_for_update(skip_locked=True, key_share=True) if lock else page

    def turn(self, after: tuple[Any, ...] | None, size: int) -> dict[str, Any]:
        """Return the parameters of `page`: behind which key, and how many rows."""
        return {_name("size"): size} | {_name("after", i): k for i, k in enumerate(after or ())}

    def key_of(self, row: Row[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the key's values of a row of `page`."""
        return tuple(row[: len(self.key)])

    def replace(self) -> Update:
        """Write rows, each only where its token is still the one that was read; return their keys.

        `arrays` gives its parameters. The row locks make that comparison needless, except on a
        connection in autocommit, where nothing stays locked.
        """
        types = {_name("key", i): c.type for i, c in enumerate(self.key)}
        types |= {_name("was"): Text(), _name("becomes"): Text()}
        types |= {_name("digest", i): Text() for i in range(len(self.indexes))}
        fresh = (
            func.unnest(*(bindparam(name, type_=ARRAY(type_)) for name, type_ in types.items()))
            .table_valued(*(column(name, type_) for name, type_ in types.items()))
            .render_derived("fresh")
        )
        becomes: dict[Any, Any] = {self.column: self._stored(fresh.c[_name("becomes")])}
        for i, index in enumerate(self.indexes):
            becomes[index.column] = fresh.c[_name("digest", i)]
        return (
            update(self.table)
            .where(*(c == fresh.c[_name("key", i)] for i, c in enumerate(self.key)))
            .where(self.text == fresh.c[_name("was")])
            .values(becomes)
            .returning(*self.key)
        )

    def arrays(self, rows: Sequence[Fresh]) -> dict[str, list[Any]]:
        """Return the parameters of `replace`."""
        keys = {_name("key", i): [row.key[i] for row in rows] for i in range(len(self.key))}
        digests = {
            _name("digest", i): [row.digests[i] for row in rows] for i in range(len(self.indexes))
        }
        return {
            _name("was"): [row.was for row in rows],
            _name("becomes"): [row.becomes for row in rows],
            **keys,
            **digests,
        }

    def _stored(self, token: ColumnElement[str]) -> ColumnElement[Any]:
        if isinstance(self.column.type, JSON):
            return cast(func.to_jsonb(token), self.column.type)
        return token


def _name(what: str, i: int | None = None) -> str:
    """Name a parameter, as no column of a service's table is named."""
    return f"forktex_vault_{what}{'' if i is None else i}"


def _find(table: Any, name: str) -> Column[Any]:
    if isinstance(table, Table):
        columns: Mapping[str, Any] = table.c
    else:
        try:
            columns = inspect(table).columns
        except (NoInspectionAvailable, AttributeError):
            msg = f"table is a mapped class or a Table, not {type(table).__name__}"
            raise TypeError(msg) from None
    found = columns.get(name)
    if not isinstance(found, Column):
        msg = f"{table} has no column {name!r}; it has {', '.join(columns.keys())}"
        raise ValueError(msg)
    return found


def _index(found: Column[Any], extract: Extract) -> IndexColumn:
    if not isinstance(found.type, BlindIndex):
        msg = f"{found} is no BlindIndex column"
        raise TypeError(msg)
    return IndexColumn(found, found.type, extract)

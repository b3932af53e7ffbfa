# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`Repository`: reading and writing the rows of one model."""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from sqlalchemy import ColumnElement, Select, func, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.orm.interfaces import ORMOption

from forktex_core.db.constraints import translated
from forktex_core.db.cursor import (
    Cursor,
    check_sortable,
    decode_cursor,
    encode_cursor,
    query_digest,
)
from forktex_core.db.errors import (
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    UniqueError,
)
from forktex_core.db.fields import check_names, check_value
from forktex_core.db.filters import compile_filters
from forktex_core.db.keyset import rows_after
from forktex_core.db.page import CursorPage, Page
from forktex_core.db.scope import current_org
from forktex_core.db.soft_delete import SoftDeleteMixin
from forktex_core.db.sorting import SortKey, total_order
from forktex_core.db.upserting import upsert_statement

_MOST = 2**63 - 1  # PostgreSQL's bigint, which LIMIT and OFFSET are
type _Conditions = Sequence[ColumnElement[bool]]


class Repository[Model: DeclarativeBase]:
    """The rows of `Model`, through `session`: `Repository[User](session)`, or a subclass.

    Filters are keywords, `field=value` or `field__operator=value` (eq, ne, lt, lte, gt, gte, in,
    not_in, between, like, ilike, contains, icontains, startswith, istartswith, endswith, iendswith,
    is_null), and SQLAlchemy expressions; all of them must hold. A field with the name of a
    parameter (`size`, `sort`) is filtered by its operator: `size__eq=3`. Sorts are field names, `-`
    before one for descending; nulls count as the greatest value, and the primary key breaks ties.

    Nothing is committed here: that is the session's. Writes are flushed at once, so that what the
    database refuses is raised where it was written; as ever after a failed flush, the transaction
    is over then, unless the write stood in a `session.begin_nested()`.

    Every method raises `UnknownFieldError`, `UnknownOperatorError` (with the near names) and
    `InvalidValueError` for what does not fit the model, and writes `ConstraintError`. `cursor_key`
    (a secret of the service's) makes cursors unforgeable; without it only damage is found.
    """

    model: type[Model]
    largest_page: ClassVar[int] = 1000

    def __class_getitem__(cls, model: Any) -> Any:
        """The repository class of `model`."""
        if isinstance(model, TypeVar):
            return super().__class_getitem__(model)  # type: ignore[misc]  # Generic has it
        if not (isinstance(model, type) and issubclass(model, DeclarativeBase)):
            raise TypeError(f"{cls.__name__}[...] takes a model class, not {model!r}")
        return type(f"{cls.__name__}[{model.__name__}]", (cls,), {"model": model})

    def __init__(self, session: AsyncSession, *, cursor_key: bytes = b"") -> None:
        if not hasattr(self, "model"):
            name = type(self).__name__
            raise TypeError(f"{name} has no model; write {name}[User](session)")
        self.session = session
        self._cursor_key = cursor_key

    async def get(self, id: Any, *, options: Sequence[ORMOption] = ()) -> Model:
        """The row with the primary key `id` (a tuple if it has several columns).

        `options` are SQLAlchemy's loader options. Raises `NotFoundError`.
        """
        found = await self.get_or_none(id, options=options)
        if found is None:
            raise NotFoundError(self.model.__name__, f"the id {id}")
        return found

    async def get_or_none(self, id: Any, *, options: Sequence[ORMOption] = ()) -> Model | None:
        """The row with the primary key `id`, or None."""
        identity = _identity(self.model, id)
        with translated(self.model.__name__):
            return await self.session.get(self.model, identity, options=options)

    async def get_by(
        self,
        *conditions: ColumnElement[bool],
        options: Sequence[ORMOption] = (),
        **filters: Any,
    ) -> Model:
        """The one row that matches; `NotFoundError` or `MultipleFoundError` if it isn't one."""
        query = self._select(self._where(conditions, filters)).options(*options).limit(2)
        with translated(self.model.__name__):
            found: Sequence[Model] = (await self.session.scalars(query)).all()
        if len(found) == 1:
            return found[0]
        error = MultipleFoundError if found else NotFoundError
        criteria = [f"{name}={value!r}" for name, value in filters.items()]
        raise error(self.model.__name__, ", ".join([*criteria, *map(str, conditions)]) or "any id")

    async def list(
        self,
        *conditions: ColumnElement[bool],
        sort: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        options: Sequence[ORMOption] = (),
        **filters: Any,
    ) -> builtins.list[Model]:
        """The rows that match, in the order of `sort` (of the primary key without one)."""
        where = self._where(conditions, filters)
        order = [key.order for key in total_order(self.model, sort)]
        query = self._select(where).order_by(*order).options(*options)
        if limit is not None:
            query = query.limit(_whole("limit", limit, 0, _MOST))
        if offset:
            query = query.offset(_whole("offset", offset, 0, _MOST))
        with translated(self.model.__name__):
            return builtins.list((await self.session.scalars(query)).all())

    async def page(
        self,
        *conditions: ColumnElement[bool],
        page: int = 1,
        size: int = 50,
        sort: str | Sequence[str] = (),
        options: Sequence[ORMOption] = (),
        **filters: Any,
    ) -> Page[Model]:
        """Page number `page`, from 1, of `size` rows, with the total.

        Rows that come or go between two pages shift the later ones; `cursor_page` has no such gap.
        """
        _whole("size", size, 1, self.largest_page)
        offset = (_whole("page", page, 1, _MOST // size) - 1) * size
        items = await self.list(
            *conditions, sort=sort, limit=size, offset=offset, options=options, **filters
        )
        if (items or page == 1) and len(items) < size:
            total = offset + len(items)  # the last page knows
        else:
            total = await self.count(*conditions, **filters)
        return Page(items, total, page, size)

    async def cursor_page(
        self,
        *conditions: ColumnElement[bool],
        cursor: str | None = None,
        size: int = 50,
        sort: str | Sequence[str] = (),
        options: Sequence[ORMOption] = (),
        **filters: Any,
    ) -> CursorPage[Model]:
        """The `size` rows at `cursor`, a former page's `next` or `previous`; None for the first.

        Rows that stay as they are come exactly once, whatever is inserted or deleted meanwhile.
        Raises `CursorError` for a cursor that is damaged or of another sort, filter or
        organisation, and `InvalidValueError` for a sort by a type that cursors cannot hold.
        """
        _whole("size", size, 1, self.largest_page)
        where, keys = self._where(conditions, filters), total_order(self.model, sort)
        check_sortable(keys)
        query = _digest(self.model, where, keys)
        at = None
        if cursor is not None:
            at = decode_cursor(cursor, keys, query, self._cursor_key)
        rows = await self._rows_at(where, keys, at, size + 1, options)
        before, after = _neighbours(rows, at, size)
        cursors = [
            None if each is None else encode_cursor(each, keys, query, self._cursor_key)
            for each in (before, after)
        ]
        shown = [row[0] for row in _shown(rows, at, size)]
        return CursorPage(shown, next=cursors[1], previous=cursors[0])

    async def create(self, **values: Any) -> Model:
        """A new row, as the database has it."""
        return (await self.create_many([values]))[0]

    async def create_many(self, rows: Iterable[Mapping[str, Any]]) -> builtins.list[Model]:
        """New rows, all or none, in batches; they come back in the order given."""
        made = []
        for values in rows:
            check_names(self.model, values)
            with translated(self.model.__name__):
                made.append(self.model(**values))
        self.session.add_all(made)
        await self._flush()
        return made

    async def update(self, target: Any, /, **values: Any) -> Model:
        """Change a row, given itself or its primary key.

        Raises `NotFoundError`, and `StaleVersionError` if it is gone or, with `VersionedMixin`,
        was changed since it was read.
        """
        check_names(self.model, values)
        row = await self._row(target)
        for name, value in values.items():
            setattr(row, name, value)
        await self._flush()
        return row

    async def upsert(self, *, on: str | Sequence[str], **values: Any) -> Model:
        """Insert a row, or change the one with the same `on` fields to `values`, in one statement.

        `on` is the primary key or the fields of a unique constraint or index. A soft-deleted row is
        shown again. Raises `UniqueError` if the row belongs to another organisation.
        """
        statement = upsert_statement(self.model, [on] if isinstance(on, str) else on, values)
        await self._flush()
        with translated(self.model.__name__):
            found = await self.session.scalars(
                statement, execution_options={"populate_existing": True}
            )
            row: Model | None = found.one_or_none()
        if row is None:
            raise UniqueError(self.model.__name__, None, f"the row with this {on} is out of scope")
        return row

    async def delete(self, target: Any, /) -> None:
        """Delete a row, given itself or its primary key; hide it if it has `SoftDeleteMixin`.

        Raises `NotFoundError`, and `StaleVersionError` if it is gone or was changed meanwhile.
        """
        row: object = await self._row(target)
        if isinstance(row, SoftDeleteMixin):
            row.soft_delete()
        else:
            await self.session.delete(row)
        await self._flush()

    async def exists(self, *conditions: ColumnElement[bool], **filters: Any) -> bool:
        """Whether a row matches."""
        query = select(_primary_key(self.model)[0]).where(*self._where(conditions, filters))
        with translated(self.model.__name__):
            return (await self.session.execute(query.limit(1))).first() is not None

    async def count(self, *conditions: ColumnElement[bool], **filters: Any) -> int:
        """How many rows match."""
        where = self._where(conditions, filters)
        query = select(func.count()).select_from(self.model).where(*where)
        with translated(self.model.__name__):
            return await self.session.scalar(query) or 0

    def _select(self, where: _Conditions) -> Select[Any]:  # typed otherwise in 2.0 and 2.1
        return select(self.model).where(*where)

    def _where(self, conditions: Sequence[Any], filters: Mapping[str, Any]) -> _Conditions:
        for condition in conditions:
            if not (
                isinstance(condition, ColumnElement) or hasattr(condition, "__clause_element__")
            ):
                raise InvalidValueError(
                    f"{condition!r} is no condition; write an expression "
                    f"({self.model.__name__}.field == value) or a keyword (field=value)"
                )
        return [*conditions, *compile_filters(self.model, filters)]

    async def _rows_at(
        self,
        where: _Conditions,
        keys: Sequence[SortKey],
        at: Cursor | None,
        limit: int,
        options: Sequence[ORMOption],
    ) -> Sequence[Any]:
        if at is not None and at.backward:
            keys = [key.reversed() for key in keys]
        # The keys by themselves: an object that the session knows already may be older than the
        # row, and a cursor made of it would point elsewhere.
        query = select(self.model, *[key.attribute for key in keys]).where(*where)
        query = query.order_by(*[key.order for key in keys]).limit(limit).options(*options)
        if at is not None:
            query = query.where(rows_after(keys, at.values))
        with translated(self.model.__name__):
            return (await self.session.execute(query)).all()

    async def _row(self, target: Any) -> Model:
        if not isinstance(target, self.model):
            return await self.get(target)
        if target not in self.session:
            raise InvalidValueError(
                f"this {self.model.__name__} is not of this repository's session; give its id"
            )
        return target

    async def _flush(self) -> None:
        with translated(self.model.__name__):
            await self.session.flush()


def _primary_key(model: type[Any]) -> list[InstrumentedAttribute[Any]]:
    mapper = inspect(model)
    return [getattr(model, mapper.get_property_by_column(c).key) for c in mapper.primary_key]


def _identity(model: type[Any], id: Any) -> tuple[Any, ...]:
    keys = _primary_key(model)
    given = id if isinstance(id, tuple) else (id,)
    if len(given) != len(keys) or None in given:
        names = ", ".join(key.key for key in keys)
        raise InvalidValueError(f"{id!r} is no primary key of {model.__name__}: ({names})")
    for key, value in zip(keys, given, strict=True):
        check_value(model, key, value)
    return given


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidValueError(f"{name} is a number from {least} to {most}, not {value!r}")
    return value


def _digest(model: type[Any], where: _Conditions, keys: Sequence[SortKey]) -> str:
    said = []
    for condition in where:
        compiled = condition.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
        said.append(f"{compiled} {sorted(compiled.params.items())!r}")
    return query_digest([model.__name__, str(current_org()), *map(str, keys), "", *sorted(said)])


def _shown(rows: Sequence[Any], at: Cursor | None, size: int) -> Sequence[Any]:
    return rows[:size][::-1] if at is not None and at.backward else rows[:size]


def _neighbours(
    rows: Sequence[Any], at: Cursor | None, size: int
) -> tuple[Cursor | None, Cursor | None]:
    """The cursors before and behind the page; one row beyond it was asked for."""
    shown, more = _shown(rows, at, size), len(rows) > size
    if not shown:
        return None, None
    before = Cursor(tuple(shown[0][1:]), backward=True)
    after = Cursor(tuple(shown[-1][1:]), backward=False)
    if at is None:
        return None, after if more else None
    return (before if more else None, after) if at.backward else (before, after if more else None)

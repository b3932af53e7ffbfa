# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which organisation the running code works for, and the mixin of rows that belong to one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, ForeignKey, Table, Uuid, bindparam, event
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column
from sqlalchemy.schema import ColumnDefault
from sqlalchemy.types import TypeEngine

from forktex_core.db.errors import MissingScopeError, ScopeError

EVERY_ORG: Final = object()
_scope: ContextVar[Any] = ContextVar("forktex_db_org_scope", default=None)

# Where the guard of statements finds the model of a scoped table: by its full name, which every
# Table has however it was made, and by its bare name in text. (Not in Table.info: Alembic writes
# that into the service's migrations.)
scoped_tables: Final[dict[str, str]] = {}
scoped_table_names: Final[dict[str, str]] = {}


@contextmanager
def org_scope(org_id: Any) -> Iterator[None]:
    """Inside the block, scoped models are those of the organisation `org_id`.

    Every ORM select, update and delete of an `OrgScopedMixin` model carries the filter and every
    insert the id. Blocks nest; each task has its own, inherited from the task that started it. A
    session serves one organisation: using it in the scope of another raises `CrossOrgError`.
    Raises `ScopeError` for None.
    """
    if org_id is None:
        raise ScopeError("org_scope(None) names no organisation; use unscoped() to work on all")
    yield from _entered(org_id)


@contextmanager
def unscoped() -> Iterator[None]:
    """Inside the block, scoped models are those of all organisations: for chores and reports.

    A session opened for it stays unscoped; new rows must name their `org_id`. Row-level security
    is not lifted by it: that takes a database role of its own (see `row_security_ddl`).
    """
    yield from _entered(EVERY_ORG)


def _entered(scope: Any) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def scope_now() -> Any:
    """The organisation in scope, EVERY_ORG or None."""
    return _scope.get()


def current_org() -> Any:
    """The id of the organisation in scope; None outside of `org_scope` and inside `unscoped`."""
    scope = _scope.get()
    return None if scope is EVERY_ORG else scope


def required_org(what: str) -> Any:
    """The id of the organisation in scope; `MissingScopeError` about `what` if there is none."""
    org = current_org()
    if org is None:
        raise MissingScopeError(what)
    return org


class OrgScopedMixin:
    """`org_id`, and rows that are only seen and written inside `org_scope`.

    Set `__org_fk__ = "organisations.id"` on the model, or once on a base of your own, to make
    `org_id` a foreign key; `__org_type__` if the key is no UUID. A model may also declare its own
    `org_id` column. An index of the model's should begin with `org_id`; a plain one is made.
    """

    __org_fk__: ClassVar[str | None] = None
    __org_type__: ClassVar[TypeEngine[Any]] = Uuid()

    @declared_attr
    @classmethod
    def org_id(cls) -> Mapped[UUID]:
        """The organisation that the row belongs to."""
        target = (ForeignKey(cls.__org_fk__),) if cls.__org_fk__ else ()
        return mapped_column(cls.__org_type__, *target, nullable=False, index=True, sort_order=-90)

    @classmethod
    def for_org(cls, org_id: Any) -> ColumnElement[bool]:
        """The filter for one organisation's rows, to write where no scope is active."""
        own: ColumnElement[bool] = cls.org_id == org_id
        return own

    @staticmethod
    def in_scope(entity: Any) -> ColumnElement[bool]:
        """The filter for the organisation in scope when the statement runs, fail-closed."""
        name = entity.__name__
        org: BindParameter[Any] = bindparam(
            "org_scope", callable_=lambda: required_org(name), unique=True
        )
        own: ColumnElement[bool] = entity.org_id == org
        return own


@event.listens_for(OrgScopedMixin, "after_mapper_constructed", propagate=True)
def _register(mapper: Mapper[Any], model: type[Any]) -> None:
    column = mapper.columns["org_id"]
    if column.default is None:
        column.default = ColumnDefault(lambda: required_org(model.__name__))
    for table in mapper.tables:
        assert isinstance(table, Table)
        scoped_tables.setdefault(table.fullname, model.__name__)
        scoped_table_names.setdefault(table.name.lower(), model.__name__)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The session class behind `get_session`: it keeps the organisation scope.

A session serves one organisation. It is bound by the first thing that happens to it inside an
`org_scope` (or `unscoped`) and refuses every other scope from then on, so that what its identity
map holds is always that organisation's. Before that it may serve models that are not scoped:
looking up the user whose organisation is not known yet, for instance.

How each way past the filter is closed:

- ORM select, update, delete, lazy and eager loads, refresh: a loader criterion whose value is read
  from the scope when the statement runs, and which fails when there is none.
- Tables without their model, and text, that name a scoped table: refused (`statement_guard`),
  unless the author vouches with `.execution_options(org_filtered=True)`.
- `get` from the identity map: needs the scope, and the map holds nothing of others.
- Objects that are added, merged or re-attached: must be of the session's organisation.
- Flush: new rows get the id, and a row of another organisation is refused.
- Bulk INSERT: the id is the column's default, a foreign one is refused; ON CONFLICT DO UPDATE
  changes only rows of the organisation. Bulk UPDATE by primary key and the legacy bulk methods
  have no place for a filter and are refused.

Row-level security is the second wall, for what goes past the session (its raw connection, views,
functions): with `row_security=True` each transaction tells the server its organisation by
`set_config(..., true)`, which ends with the transaction and so is safe behind a pooler.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Executable, Select, event, func, inspect, select
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransaction,
    object_session,
    with_loader_criteria,
)
from sqlalchemy.sql.dml import Insert, Update

from forktex_core.db.errors import CrossOrgError, MissingScopeError, UnscopedStatementError
from forktex_core.db.insert_guard import guard_update, guarded_insert
from forktex_core.db.scope import EVERY_ORG, OrgScopedMixin, required_org, scope_now
from forktex_core.db.soft_delete import SoftDeleteMixin, deleted_included
from forktex_core.db.statement_guard import any_use, bare_use, nested_use

ORG_SETTING = "forktex.org_id"

_IN_SCOPE = with_loader_criteria(
    OrgScopedMixin, lambda model: model.in_scope(model), include_aliases=True
)
_NOT_DELETED = with_loader_criteria(
    SoftDeleteMixin, lambda model: model.deleted_at.is_(None), include_aliases=True
)


class OrgSession(Session):
    """A session of one organisation; see the module's text."""

    def __init__(
        self,
        *args: Any,
        transaction_settings: Mapping[str, str],
        row_security: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.transaction_settings = transaction_settings
        self._row_security = row_security
        self._bound: Any = None
        self._told = False
        self._loading = False

    def enter_scope(self) -> Any:
        """Bind the session to the scope that is active, if one is; answer what it is bound to."""
        scope = scope_now()
        if scope is not None and self._bound is None:
            self._bound = scope
        if scope is not None and scope != self._bound:
            raise CrossOrgError(
                f"this session serves {_shown(self._bound)} and was used in the scope of "
                f"{_shown(scope)}; open another one with get_session() inside that scope"
            )
        return self._bound

    def makes_statement(self, state: ORMExecuteState) -> bool:
        """Whether the ORM itself made the statement, for loading what a mapper describes."""
        return self._loading or state.is_column_load or state.is_relationship_load

    def tell_server(
        self, connection: Connection, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Make `settings` and the organisation known to the server until the transaction ends."""
        if self._row_security and self._bound not in (None, EVERY_ORG) and not self._told:
            settings = {**settings, ORG_SETTING: str(self._bound)}
            self._told = True
        if settings:
            calls = [func.set_config(name, value, True) for name, value in settings.items()]
            connection.execute(select(*calls))

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """As SQLAlchemy's, also for what the identity map holds: scoped, and not soft-deleted."""
        self.enter_scope()
        self._loading = True
        try:
            found = super().get(*args, **kwargs)
        finally:
            self._loading = False
        if isinstance(found, OrgScopedMixin) and scope_now() is None:
            required_org(type(found).__name__)
        if isinstance(found, SoftDeleteMixin) and found.deleted_at and not deleted_included():
            return None
        return found

    def admit(self, instance: OrgScopedMixin) -> None:
        """Let an object of the session's organisation in, giving the id to one that is new."""
        org, name = self.enter_scope(), type(instance).__name__
        if org is EVERY_ORG:
            return
        if org is None:
            raise MissingScopeError(name)
        own = inspect(instance).dict.get("org_id")
        if own is None and not inspect(instance).has_identity:
            instance.org_id = org
        elif own is None or own != org:
            raise CrossOrgError(
                f"this {name} is of the organisation {own or 'that was not loaded with it'} and "
                f"the session serves {_shown(org)}; open a session inside the other's org_scope"
            )

    def bulk_save_objects(self, objects: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, for models that are not scoped."""
        objects = list(objects)
        for instance in objects:
            _refuse_bulk(type(instance))
        super().bulk_save_objects(objects, *args, **kwargs)

    def bulk_insert_mappings(self, mapper: Any, *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, for models that are not scoped."""
        _refuse_bulk(inspect(mapper).class_)
        super().bulk_insert_mappings(mapper, *args, **kwargs)

    def bulk_update_mappings(self, mapper: Any, *args: Any, **kwargs: Any) -> None:
        """As SQLAlchemy's, for models that are not scoped."""
        _refuse_bulk(inspect(mapper).class_)
        super().bulk_update_mappings(mapper, *args, **kwargs)


def _shown(scope: Any) -> str:
    return "all organisations" if scope is EVERY_ORG else f"the organisation {scope}"


def _refuse_bulk(model: type[Any]) -> None:
    if issubclass(model, OrgScopedMixin):
        raise UnscopedStatementError(
            f"the legacy bulk methods go past the scope of {model.__name__}; use "
            f"session.execute(insert({model.__name__}), rows), or update(...).where(...)"
        )


@event.listens_for(OrgSession, "after_begin")
def _begin(session: OrgSession, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        session.enter_scope()
        session.tell_server(connection, session.transaction_settings)


@event.listens_for(OrgSession, "after_transaction_end")
def _end(session: OrgSession, transaction: SessionTransaction) -> None:
    # A setting made inside a savepoint is gone with it: tell again rather than guess.
    if transaction.nested or transaction.parent is None:
        session._told = False  # noqa: SLF001 - this module's own


@event.listens_for(OrgSession, "before_attach")
def _attach(session: OrgSession, instance: object) -> None:
    if isinstance(instance, OrgScopedMixin):
        session.admit(instance)


def _check_flushed(_mapper: Mapper[Any], connection: Connection, instance: Any) -> None:
    session = object_session(instance)
    if isinstance(session, OrgSession):
        session.admit(instance)
        session.tell_server(connection)


# Not before_flush: by then an org_id that follows from a relationship has not been copied yet.
for _moment in ("before_insert", "before_update", "before_delete"):
    event.listen(OrgScopedMixin, _moment, _check_flushed, propagate=True)


@event.listens_for(OrgSession, "do_orm_execute")
def _execute(state: ORMExecuteState) -> None:
    session = state.session
    assert isinstance(session, OrgSession)
    session.enter_scope()
    if session.in_transaction():
        session.tell_server(session.connection())
    if scope_now() is not EVERY_ORG:
        if not session.makes_statement(state):
            _refuse_unfilterable(state)
        if state.is_orm_statement:
            _restrict(state)
    visible = state.is_column_load or deleted_included()
    if state.is_orm_statement and not state.is_insert and not visible:
        state.statement = state.statement.options(_NOT_DELETED)


def _refuse_unfilterable(state: ORMExecuteState) -> None:
    if state.execution_options.get("org_filtered"):
        return
    seen_whole = state.is_orm_statement and not state.is_from_statement
    statement = _without_fetched_keys(state.statement, state.bind_mapper)
    model = (bare_use if seen_whole else any_use)(statement)
    if model is None and isinstance(state.statement, Insert):
        model = nested_use(state.statement)
    if model is not None:
        raise UnscopedStatementError(
            f"this statement reads or writes {model}, which belongs to an organisation, in a way "
            f"that the scope's filter cannot be added to; name the model as an entity "
            f"(select({model}), .select_from({model}) or .join({model})), run it inside "
            "unscoped(), or filter by org_id yourself and say so: "
            "statement.execution_options(org_filtered=True)"
        )


def _without_fetched_keys(statement: Executable, mapper: Mapper[Any] | None) -> Executable:
    """The statement, or its like if it is the one that a bulk change fetches keys by.

    With synchronize_session="fetch", which "auto" falls back to, SQLAlchemy selects the columns of
    the primary key, which name the bare table, but from the model: the filter reaches them.
    """
    if mapper is None or not isinstance(statement, Select):
        return statement
    keys = list(statement._raw_columns)[:-1]  # noqa: SLF001 - without the token behind them
    sources = [each._annotations.get("parententity") for each in statement._from_obj]  # noqa: SLF001
    if sources == [mapper] and list(map(id, keys)) == list(map(id, mapper.primary_key)):
        return select(mapper.class_).where(*statement._where_criteria)  # noqa: SLF001
    return statement


def _restrict(state: ORMExecuteState) -> None:
    mapper, statement = state.bind_mapper, state.statement
    if mapper is not None and issubclass(mapper.class_, OrgScopedMixin):
        if isinstance(statement, Insert):
            org = required_org(mapper.class_.__name__)
            state.statement = guarded_insert(statement, state.parameters, mapper, org)
        elif isinstance(statement, Update):
            org = required_org(mapper.class_.__name__)
            guard_update(statement, state.parameters, mapper, org)
    if state.is_column_load and mapper is not None and isinstance(statement, Select):
        if issubclass(mapper.class_, OrgScopedMixin):  # a refresh ignores loader criteria
            state.statement = statement.where(mapper.class_.in_scope(mapper.class_))
    elif not state.is_insert:
        state.statement = state.statement.options(_IN_SCOPE)

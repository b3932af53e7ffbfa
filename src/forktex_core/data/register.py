# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`Register`: a table that a tenant defines, as a service uses it.

    invoices = await Register.create("invoices", tenant_id=org, fields=[
        Field("number", unique=True, required=True),
        Field("amount", MoneyField(currencies=("EUR",)), indexed=True),
    ])
    row = await invoices.insert(number="2026-1", amount="12.50 EUR")

A register bound to a session (`invoices.using(session)`, or `session=` where it is loaded) works
inside the session's transaction; any other works by itself, one transaction for each call.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from forktex_core.data.definition import Field, RegisterDefinition
from forktex_core.data.errors import (
    DefinitionConflictError,
    DefinitionError,
    InvalidValueError,
    Problem,
    RevisionConflictError,
    RowNotFoundError,
    UnknownRegisterError,
)
from forktex_core.data.names import label_problems, name_problems
from forktex_core.data.query.bound import SYSTEM, BoundAll, Compare
from forktex_core.data.query.evaluate import Stored
from forktex_core.data.query.postgres import PostgresReader, StaleDefinitionError
from forktex_core.data.query.request import Archived, Request
from forktex_core.data.rows.history import Change, changes
from forktex_core.data.rows.lifecycle import Lifecycle
from forktex_core.data.rows.row import Row
from forktex_core.data.rows.values import restored
from forktex_core.data.rows.writer import Writer
from forktex_core.data.store.catalog import Catalog
from forktex_core.data.store.data_store import DataStore, default_store
from forktex_core.data.types import FieldType, Reference, References, ValueRefusedError
from forktex_core.data.types.links import OnDelete, as_uuid
from forktex_core.db import uuid7

_ATTEMPTS = 8


def tenant_text(tenant_id: Any) -> str:
    """The tenant as the store knows it; raises `DefinitionError` for none."""
    text = str(tenant_id) if isinstance(tenant_id, UUID | int | str) else ""
    if not text or len(text) > 200 or "\0" in text or isinstance(tenant_id, bool):
        message = "a tenant is a UUID, a number, or text of at most 200 characters"
        raise DefinitionError([Problem("tenant_id", "tenant", message)])
    return text


class Register:
    """A register of one tenant; made by `load` or `create`, not by hand."""

    def __init__(
        self, name: str, tenant: str, store: DataStore, session: AsyncSession | None, by: str | None
    ) -> None:
        self.name = name
        self.tenant = tenant
        self.store = store
        self.session = session
        self.by = by
        self._catalog = Catalog(store)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        tenant_id: Any,
        store: DataStore | None = None,
        session: AsyncSession | None = None,
        by: str | None = None,
    ) -> Self:
        """The register `name`, resolved when it is first used (then `UnknownRegisterError`).

        `by` is who is said to have made and changed rows; `session` the transaction to work in.
        """
        return cls(name, tenant_text(tenant_id), store or default_store(), session, by)

    @classmethod
    async def create(
        cls,
        name: str,
        *,
        tenant_id: Any,
        fields: Iterable[Field] = (),
        label: str = "",
        description: str = "",
        time_field: str = "created_at",
        history: bool = True,
        store: DataStore | None = None,
        session: AsyncSession | None = None,
        by: str | None = None,
    ) -> Self:
        """Define a register. Raises `DefinitionError` with everything that is wrong."""
        made = cls.load(name, tenant_id=tenant_id, store=store, session=session, by=by)
        await made.store.check("define", made.tenant, name)
        problems = name_problems(name, "name") + label_problems(label, "label")
        definition = RegisterDefinition(0, made.tenant, name, label, description, history=history)
        for each in fields:
            try:
                definition = definition.with_field(each, made.store.limits)
            except DefinitionError as exc:
                problems += exc.problems
        if problems:
            raise DefinitionError(problems)
        if time_field != "created_at":
            definition = definition.with_settings({"time_field": time_field})
        await Catalog(made.store).create(session, definition, by)
        return made

    @classmethod
    async def all(
        cls, *, tenant_id: Any, store: DataStore | None = None, session: AsyncSession | None = None
    ) -> list[Self]:
        """Every register of a tenant, by name."""
        store = store or default_store()
        tenant = tenant_text(tenant_id)
        found = await Catalog(store).all(session, tenant)
        return [cls(each.name, tenant, store, session, None) for each in found]

    def using(self, session: AsyncSession | None) -> Self:
        """The same register, working in the session's transaction."""
        return type(self)(self.name, self.tenant, self.store, session, self.by)

    def acting_as(self, by: str | None) -> Self:
        """The same register, whose rows are made and changed by somebody else."""
        return type(self)(self.name, self.tenant, self.store, self.session, by)

    async def definition(self) -> RegisterDefinition:
        """The definition as the database has it."""
        return await self._catalog.read(self.session, self.tenant, self.name)

    async def known(self, *, anew: bool = False) -> RegisterDefinition:
        """The definition as this process knows it; each statement checks that it is still true."""
        if anew:
            self.store.known.pop((self.tenant, self.name), None)
        return await self._catalog.get(self.session, self.tenant, self.name)

    # definitions

    async def add_field(self, field: Field, *, expected: int | None = None) -> RegisterDefinition:
        """Add a field; `expected` is the version that the change was made for."""
        limits = self.store.limits
        return await self._define(lambda old: old.with_field(field, limits), expected)

    async def alter_field(
        self, field: str, *, expected: int | None = None, **changes: Any
    ) -> RegisterDefinition:
        """Change a field's name, label, settings, or whether it is required, unique or indexed."""
        return await self._define(lambda old: old.with_changes(field, changes), expected)

    async def drop_field(self, field: str, *, expected: int | None = None) -> RegisterDefinition:
        """Drop a field; its values are out of reach at once."""
        return await self._define(lambda old: old.without_field(field), expected)

    async def alter(self, *, expected: int | None = None, **changes: Any) -> RegisterDefinition:
        """Change the label, the description, `time_field`, `history` or `unique_together`."""
        return await self._define(lambda old: old.with_settings(changes), expected)

    async def add_relationship(
        self,
        name: str,
        to: "Register | str",
        *,
        many: bool = False,
        on_delete: OnDelete | None = None,
        label: str = "",
        required: bool = False,
        indexed: bool = True,
    ) -> RegisterDefinition:
        """Add a field that refers to a row of `to` (to any number of them with `many`)."""
        target = to.name if isinstance(to, Register) else to
        if isinstance(to, Register) and to.tenant != self.tenant:
            message = f"the register {target!r} is not this tenant's"
            raise DefinitionError([Problem(name, "tenant", message)])
        if target != self.name:
            await self._catalog.read(self.session, self.tenant, target)
        kind: FieldType = (
            References(target, on_delete or "set_null")
            if many
            else Reference(target, on_delete or "restrict")
        )
        made = Field(name, kind, label, required=required, indexed=indexed and not many)
        return await self.add_field(made)

    async def drop(self) -> None:
        """Drop the register with all its rows."""
        await self.store.check("drop", self.tenant, self.name)
        await self._catalog.drop(self.session, self.tenant, self.name)

    async def _define(
        self,
        change: Callable[[RegisterDefinition], RegisterDefinition],
        expected: int | None,
    ) -> RegisterDefinition:
        await self.store.check("define", self.tenant, self.name)
        return await self._catalog.change(
            self.session, self.tenant, self.name, change, by=self.by, expected=expected
        )

    # rows

    async def insert(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Row:
        """Make a row. Raises `InvalidRowError` with everything that is wrong, `DuplicateError`."""
        return (await self.insert_many([{**(values or {}), **named}]))[0]

    async def insert_many(self, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Make rows, all or none of them, in one statement."""
        given = [*rows]
        await self.store.check("write", self.tenant, self.name)
        if not given:
            return []

        async def insert(connection: Any, writer: Writer) -> Any:
            return await writer.insert(connection, given, self.by)

        definition, stored = await self._write(insert)
        return [row_of(definition, each) for each in stored]

    async def get(self, id_: UUID | str, *, archived: Archived = "without") -> Row:
        """The row of an id; raises `RowNotFoundError`."""
        await self.store.check("read", self.tenant, self.name)
        definition, stored = await self._stored(id_, archived)
        return row_of(definition, stored)

    async def update(
        self,
        id_: UUID | str,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        if_revision: int | None = None,
        **named: Any,
    ) -> Row:
        """Change some fields of a row; None empties a field.

        With `if_revision` the change is refused by `RevisionConflictError` (whose `current` is the
        row of now) when somebody else was quicker; without it, it is applied to what is there.
        """
        given = {**(values or {}), **named}
        await self.store.check("write", self.tenant, self.name)
        for _ in range(_ATTEMPTS):
            definition, old = await self._stored(id_, "without")
            if if_revision is not None and old.revision != if_revision:
                raise RevisionConflictError(self.name, row_of(definition, old), if_revision)

            async def change(connection: Any, writer: Writer, old: Stored = old) -> Any:
                return await writer.change(connection, old, given, self.by, uuid7())

            definition, new = await self._write(change)
            if new is not None:
                return row_of(definition, new)
        raise DefinitionConflictError(self.name)

    async def archive(self, *ids: UUID | str) -> int:
        """Archive rows, with the rows that refer to them by a cascading relationship.

        Returns how many rows were archived; what is archived already is not counted.
        """
        return await self._move(lambda moves, known: moves.archive(known, _uuids(ids), uuid7()))

    async def restore(self, *ids: UUID | str) -> int:
        """Restore archived rows, with all that was archived with them; returns how many."""
        return await self._move(lambda moves, known: moves.restore(known, _uuids(ids)))

    async def delete(self, *ids: UUID | str) -> int:
        """Delete rows for ever, archived or not, by the rules of the relationships to them.

        Returns how many rows went. Raises `RestrictedError` when a rule forbids it.
        """
        return await self._move(lambda moves, known: moves.delete(known, _uuids(ids), uuid7()))

    async def changes(self, id_: UUID | str) -> list[Change]:
        """What happened to a row, newest first, also to one that is deleted."""
        await self.store.check("read", self.tenant, self.name)
        (wanted,) = _uuids([id_])
        definition = await self.known()
        try:
            definition, row = await self._stored(wanted, "with")
            payload: Mapping[str, Any] | None = row.payload
        except RowNotFoundError:
            payload = None
        async with self.store.connection(self.session, self.tenant) as connection:
            kept = await connection.fetch(
                "SELECT row_id, revision, change_set, action, at, by, before::text "  # noqa: S608 - quoted
                f"FROM {self.store.table('history')} h JOIN {self.store.table('register')} d "
                "ON d.id = h.register_id AND d.tenant = $3 "
                "WHERE register_id = $1 AND row_id = $2 ORDER BY revision DESC",
                definition.id,
                wanted,
                self.tenant,
            )
        if payload is None and not kept:
            raise RowNotFoundError(self.name, wanted)
        return changes(definition, payload, kept)

    async def _move(self, work: Callable[[Lifecycle, RegisterDefinition], Awaitable[int]]) -> int:
        await self.store.check("write", self.tenant, self.name)
        most = self.store.limits.rows_per_call
        for _ in range(_ATTEMPTS):
            registers = await self._catalog.all(self.session, self.tenant)
            known = next((each for each in registers if each.name == self.name), None)
            if known is None:
                raise UnknownRegisterError(self.name)
            try:
                async with self.store.transaction(self.session, self.tenant) as connection:
                    moves = Lifecycle(self.store.schema, registers, connection, self.by, most)
                    return await work(moves, known)
            except StaleDefinitionError:
                continue
        raise DefinitionConflictError(self.name)

    async def _write(
        self, work: Callable[[Any, Writer], Awaitable[Any]]
    ) -> tuple[RegisterDefinition, Any]:
        """Do `work` by the definition that is true when it is done."""
        for attempt in range(_ATTEMPTS):
            definition = await self.known(anew=attempt > 0)
            registers = await self.referred(definition, anew=attempt > 0)
            writer = Writer(self.store.schema, definition, registers, self.store.limits)
            async with self.store.connection(self.session, self.tenant) as connection:
                try:
                    return definition, await work(connection, writer)
                except StaleDefinitionError:
                    continue
        raise DefinitionConflictError(self.name)

    async def referred(
        self, definition: RegisterDefinition, *, anew: bool = False
    ) -> dict[str, RegisterDefinition]:
        """The registers that the fields of this one refer to."""
        found = {}
        for each in definition.fields:
            if isinstance(each.type, Reference | References):
                other = type(self)(each.type.register, self.tenant, self.store, self.session, None)
                found[each.type.register] = await other.known(anew=anew)
        return found

    async def _stored(
        self, id_: UUID | str, archived: Archived
    ) -> tuple[RegisterDefinition, Stored]:
        (wanted,) = _uuids([id_])
        reader = PostgresReader(self.store, self.tenant, self.session)
        for attempt in range(_ATTEMPTS):
            definition = await self.known(anew=attempt > 0)
            where = BoundAll((Compare(SYSTEM["id"], "eq", str(wanted), wanted),))
            request = Request(definition, where, archived=archived, limit=1)
            try:
                found = await reader.rows(request)
            except StaleDefinitionError:
                continue
            if not found:
                raise RowNotFoundError(self.name, wanted)
            return definition, found[0]
        raise DefinitionConflictError(self.name)


def _uuids(ids: Iterable[UUID | str]) -> list[UUID]:
    try:
        return [as_uuid(each) for each in ids]
    except ValueRefusedError as exc:
        raise InvalidValueError("id", f"the value {exc}") from exc


def row_of(definition: RegisterDefinition, stored: Stored) -> Row:
    """A stored row as it is read."""
    assert stored.created_at is not None
    assert stored.updated_at is not None
    return Row(
        stored.id,
        stored.revision,
        restored(definition, dict(stored.payload)),
        stored.created_at,
        stored.updated_at,
        stored.created_by,
        stored.updated_by,
        stored.archived_at,
    )

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Tenants on one Flow: what belongs to an organisation is there for its principals alone.

Two walls. The first is the extension: a column ``org_id`` on every run, which every lookup, list
and count of a principal carries as a condition; a namespace for names; a policy that says what its
role may do. The second is Postgres itself: row-level security for the role that the service's
requests run on, by a setting of each transaction. It doesn't know of the first: where somebody
forgets a condition, it shows nothing of others.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg

from forktex_core.flow.errors import AccessDeniedError, DefinitionError
from forktex_core.flow.extending import SYSTEM, settled
from forktex_core.flow.extension import Action, Column, Condition, RunDraft, RunView
from forktex_core.flow.store.connection import connect, plain_dsn
from forktex_core.flow.store.parts import part
from forktex_core.flow.store.sql import quote_identifier

type Policy = Callable[[Action, Any, RunView | None], Awaitable[bool] | bool]

_logger = logging.getLogger("forktex_core.flow.migrate")
SETTING = "forktex_flow.org_id"
# What belongs to no tenant: the service's own, whatever a policy says.
_SHARED = frozenset(
    {"queue.read", "queue.change", "retention.read", "retention.change", "fleet.read"}
)


class TenantExtension:
    """Keeps the tenants of a Flow apart. Give it to ``Flow(extensions=[...])``, and call the Flow
    as ``flow.as_(principal)``.

    Args:
        policy: says whether a principal may do something within its own organisation. It is never
            asked about another one's runs. Everything by default.
        org_of: returns a principal's organisation (None: it has none, and may do nothing); its
            attribute ``org_id`` by default.
        type: the type of organisations' ids, UUID or str.
        row_security: whether the transactions of principals say whose they are, as the policies
            of install_row_security() ask.

    Limits of queues and retention rules belong to the service: no tenant reads or changes them.
    What a tenant calls a key or a schedule is its own; stored graphs live in the namespace that is
    called like the organisation's id.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        org_of: Callable[[Any], Any] = attrgetter("org_id"),
        type: type = UUID,
        row_security: bool = False,
    ) -> None:
        if type not in (UUID, str):
            raise DefinitionError(f"organisations' ids are UUID or str, not {type.__name__}")
        self._policy, self._org_of, self._type = policy, org_of, type
        self._row_security = row_security

    def columns(self) -> list[Column]:
        """The column ``org_id``."""
        return [Column("org_id", self._type, isolates=True)]

    def on_start(self, draft: RunDraft) -> None:
        """Put the organisation into the run. What the service itself starts has none."""
        if draft.principal is not SYSTEM:
            draft.columns["org_id"] = self._org(draft.principal)

    async def authorize(self, action: Action, principal: Any, run: RunView | None) -> bool:
        """Refuse what is the service's or another organisation's; ask the policy about the rest."""
        org = self._org(principal)
        if action in _SHARED or (run is not None and run.columns.get("org_id") != org):
            return False
        return self._policy is None or await settled(self._policy(action, principal, run)) is True

    def visible(self, principal: Any) -> Condition:
        """The organisation's own runs and schedules."""
        return Condition("{row}.org_id = $1", (self._org(principal),), indexed=True)

    def namespace(self, principal: Any) -> str:
        """The organisation's id."""
        return str(self._org(principal))

    def settings(self, principal: Any) -> Mapping[str, str]:
        """Whose transaction it is."""
        return {SETTING: str(self._org(principal))} if self._row_security else {}

    def _org(self, principal: Any) -> Any:
        try:
            org = self._org_of(principal)
        except (AttributeError, LookupError, TypeError):
            org = None
        if isinstance(org, UUID) and self._type is UUID:
            return UUID(bytes=org.bytes)
        if not org or type(org) is not self._type:
            raise AccessDeniedError(
                "anything", f"{principal!r:.120} belongs to no organisation: it may do nothing here"
            )
        return org


async def install_row_security(
    database_url: str,
    *,
    role: str,
    schema: str = "forktex_flow",
    worker: str | None = None,
) -> None:
    """Let a role of Postgres see and write what belongs to the organisation of its transaction, and
    nothing at all when there is none. Run it as the owner of the tables, once the Flow with the
    TenantExtension was opened there, and again after each upgrade of this library; it is one
    transaction.

    Args:
        database_url: a connection of the tables' owner.
        role: the role that the service's requests run on. It gets the rights that it needs.
        schema: the schema of the Flow.
        worker: the role of the workers, when it is not the owner of the tables. It needs the
            attribute BYPASSRLS; then the policies are forced upon the owner as well.

    Raises:
        DefinitionError: the tables have no org_id yet, or a role is not fit.
    """
    connection = await connect(plain_dsn(database_url), "forktex-flow row security")
    try:
        async with connection.transaction():
            await _install(connection, schema, role, worker)
    finally:
        await connection.close()


async def _install(connection: Any, schema: str, role: str, worker: str | None) -> None:
    await _check_roles(connection, role, worker)
    kind = await _type_of_column(connection, schema)
    names = {"role": quote_identifier(role), "type": kind, "setting": f"'{SETTING}'"}
    for table in await connection.fetch(part("tables", schema), schema):
        name = {"table": quote_identifier(table["name"])}
        await connection.execute(part("enable", schema, **name))
        await connection.execute(part("force" if worker else "unforce", schema, **name))
        for policy in await connection.fetch(part("policies", schema), schema, table["name"]):
            quoted = {"policy": quote_identifier(policy["name"])}
            await connection.execute(part("drop_policy", schema, **name, **quoted))
        if table["kind"]:
            await connection.execute(part(table["kind"], schema, **name, **names))
    await connection.execute(part("grants", schema, **names))
    if worker:
        await connection.execute(part("worker_grants", schema, worker=quote_identifier(worker)))
    _logger.info("row-level security holds for role %s in schema %s", role, schema)


async def _check_roles(connection: Any, role: str, worker: str | None) -> None:
    found = {r["name"]: r for r in await connection.fetch(part("roles", ""), [role, worker])}
    for name in filter(None, (role, worker)):
        if name not in found:
            raise DefinitionError(f"there is no role {name!r}: CREATE ROLE it first")
    if found[role]["bypasses"] or found[role]["owns"]:
        raise DefinitionError(
            f"role {role!r} is a superuser, bypasses row-level security, or is the one connected "
            "here: policies would not hold for it; give the requests a plain role"
        )
    if worker and not found[worker]["bypasses"]:
        raise DefinitionError(f"role {worker!r} sees nothing: ALTER ROLE … BYPASSRLS")


async def _type_of_column(connection: Any, schema: str) -> str:
    try:
        kind = await connection.fetchval(part("type_of_org", schema))
    except asyncpg.UndefinedTableError:
        kind = None
    if kind is None:
        raise DefinitionError(
            f"schema {schema!r} has no column org_id: open the Flow with its TenantExtension first"
        )
    return str(kind)

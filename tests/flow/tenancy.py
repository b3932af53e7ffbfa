# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Two tenants on one database: what the victim has, and what its attacker and its service share."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from forktex_core.flow import (
    SYSTEM,
    ActingFlow,
    Flow,
    Graph,
    Library,
    TenantExtension,
    install_row_security,
)
from forktex_core.flow.store.passage import Passage
from tests.conftest import Database, execute
from tests.waiting import eventually

library = Library()
PARTS = ("journal", "signal", "published")


@dataclass(frozen=True)
class User:
    """A principal: its organisation and what it may do."""

    org_id: UUID
    may: frozenset[str] | None = None


class ForgetfulExtension(TenantExtension):
    """One whose first wall has fallen: it shows everybody everything."""

    def visible(self, principal: Any) -> Any:
        return None

    async def authorize(self, action: Any, principal: Any, run: Any) -> bool:
        return True


def role_policy(action: str, principal: User, run: Any) -> bool:
    """Say whether a user's role has a right."""
    return principal.may is None or action in principal.may


def mail() -> Graph:
    """A graph that waits for 'advance'."""
    g = Graph("mail", initial="ask")
    g.add_state("ask", manual=True)
    g.add_state("sent", terminal=True)
    g.transition("ask", "sent")
    return g


def register(flow: Flow) -> None:
    """Register what both processes have."""
    flow.serve_graphs(library)

    @flow.step
    async def double(ctx, number: int) -> int:
        return 2 * number

    @flow.workflow(name="double")
    async def doubled(ctx, number: int) -> int:
        await ctx.publish("number", number)
        return await double(ctx, number)

    @flow.workflow(name="wait")
    async def wait(ctx) -> Any:
        await double(ctx, 1)
        await ctx.publish("secret", "of the victim")
        ctx.progress(1, 2, "half")
        return await ctx.wait_signal("go")

    @flow.workflow(name="fail")
    async def fail(ctx) -> None:
        await double(ctx, 1)
        raise ValueError("secret of the victim")

    @flow.workflow(name="family")
    async def family(ctx, number: int) -> int:
        return await ctx.run_child("double", number)


@dataclass
class World:
    """A victim with all that can be had, an attacker with nothing, and nobody in particular."""

    service: Flow
    clients: Flow
    victim: User = field(default_factory=lambda: User(uuid4()))
    attacker: User = field(default_factory=lambda: User(uuid4()))
    runs: dict[str, UUID] = field(default_factory=dict)

    @property
    def forgetful(self) -> bool:
        """Whether the first wall has fallen."""
        return any(
            isinstance(hook.__self__, ForgetfulExtension)
            for hook in self.clients._extensions._visible
        )

    @property
    def system(self) -> ActingFlow:
        return self.service.as_(SYSTEM)

    @property
    def theirs(self) -> ActingFlow:
        return self.clients.as_(self.victim)

    @property
    def mine(self) -> ActingFlow:
        return self.clients.as_(self.attacker)

    async def furnish(self) -> None:
        """Give the victim runs of every kind, a schedule, a graph, and keys."""
        v = self.theirs
        await v.definitions.save(str(self.victim.org_id), mail())
        await v.definitions.activate(str(self.victim.org_id), "mail", 1)
        name = f"@{self.victim.org_id}/mail"
        await v.schedule("nightly", "double", cron="0 3 * * *", input=4, key="k")
        self.runs = {
            "done": await v.start("double", 21, idempotency_key="order-1"),
            "waiting": await v.start("wait", deduplication_key="one", key="customer"),
            "failed": await v.start("fail"),
            "graph": await v.start(name, {"n": 1}),
            "parent": await v.start("family", 3),
            "scheduled": await v.trigger_schedule("nightly"),
        }
        await self.system.queue("default", per_key=50)
        await self.system.start("wait", queue="unserved")  # the service's own
        await v.start("wait", queue="unserved")
        await eventually(self._at_rest)

    async def _at_rest(self) -> bool:
        rows = await self.service._trusted.store.claims_of(list(self.runs.values()))
        rests = {"succeeded", "failed", "waiting"}
        if not all(row["status"] in rests for row in rows) or len(rows) < len(self.runs):
            return False
        # Progress is shown a moment after the run began to wait.
        return await self.system.progress(self.runs["waiting"]) is not None


async def make_role(postgres: Database) -> tuple[str, Database]:
    """Return a plain role of Postgres, and the database as it reaches it."""
    role, password = f"client_{secrets.token_hex(6)}", secrets.token_hex(12)
    await execute(postgres, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    parts = urlsplit(postgres.dsn)
    host = parts.netloc.rpartition("@")[2]
    return role, Database(urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}")))


async def drop_role(postgres: Database, role: str) -> None:
    """Remove a role and its rights."""
    await execute(postgres, f"DROP OWNED BY {role}")
    await execute(postgres, f"DROP ROLE {role}")


@asynccontextmanager
async def a_world(postgres: Database, schema: str, walls: str) -> AsyncIterator[World]:
    """Open a world. ``walls``: ``first`` (the extension alone), ``second`` (row-level security
    alone: the extension forgets its conditions) or ``both``.
    """
    secured = walls != "first"
    kind = ForgetfulExtension if walls == "second" else TenantExtension
    service = Flow(postgres.url, schema=schema, extensions=[TenantExtension(role_policy)])
    register(service)
    role, address = await make_role(postgres) if secured else ("", postgres)
    guard = kind(role_policy, row_security=secured)
    clients = Flow(address.url, schema=schema, extensions=[guard])
    register(clients)
    try:
        async with service:
            if secured:
                await install_row_security(postgres.url, role=role, schema=schema)
            worker = asyncio.create_task(service.run_worker())
            async with clients:
                world = World(service, clients)
                await world.furnish()
                yield world
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    finally:
        if secured:
            await drop_role(postgres, role)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Record the names of the statements that principals' calls send."""
    sent: list[str] = []
    fetch = Passage.fetch

    async def recorded(self: Passage, on: Any, name: str, query: Any, args: Any) -> Any:
        if self.view.namespace is not None:
            sent.append(name)
        return await fetch(self, on, name, query, args)

    Passage.fetch = recorded  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        Passage.fetch = fetch  # type: ignore[method-assign]


async def everything_of(sql: asyncpg.Connection, world: World) -> dict[str, list[Any]]:
    """Return all rows of the victim, save what its own worker goes on writing."""
    runs = [
        r["id"]
        for r in await sql.fetch("SELECT id FROM run WHERE org_id = $1", world.victim.org_id)
    ]
    found = {
        table: await sql.fetch(f"SELECT * FROM {table} WHERE {by} = ANY ($1) ORDER BY 1, 2", runs)
        for table, by in {"run": "id", **dict.fromkeys(PARTS, "run_id")}.items()
    }
    for table in ("schedule", "graph", "graph_version", "queue", "retention"):
        found[table] = await sql.fetch(
            f"SELECT to_jsonb(x) - 'cursor' - 'starts' FROM {table} x ORDER BY 1"
        )
    return found

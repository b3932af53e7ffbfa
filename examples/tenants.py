# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Two tenants on one database, behind two walls: `python -m examples.tenants`.

The requests of this service run on a plain role of Postgres, whose rows are its tenant's; workers
on the owner of the tables. Roles within a tenant are a policy function. An outbox notes every run
that ends, in the transaction in which it does.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from forktex_core.embedded import EmbeddedPostgres
from forktex_core.flow import (
    SYSTEM,
    AccessDeniedError,
    Change,
    Flow,
    FlowContext,
    RunNotFoundError,
    RunView,
    TenantExtension,
    TransitionConnection,
    install_row_security,
)

RIGHTS = {"admin": {"start", "read", "list", "cancel", "signal"}, "reader": {"read", "list"}}


@dataclass(frozen=True)
class User:
    """Whoever a request comes from."""

    name: str
    org_id: UUID
    role: str


def policy(action: str, user: User, run: RunView | None) -> bool:
    """Say what a role may do within its own organisation."""
    return action in RIGHTS[user.role]


class Outbox:
    """Notes which runs ended, with the end itself."""

    async def on_transition(self, change: Change, connection: TransitionConnection) -> None:
        """Write a row for each end."""
        if change.new in ("succeeded", "failed", "cancelled"):
            await connection.fetch(
                "INSERT INTO outbox VALUES ($1, $2)", str(change.columns["org_id"]), change.new
            )


def make_flow(url: str, **options: Any) -> Flow:
    """Return the Flow of a process: of the workers', or of one that answers requests."""
    flow = Flow(url, extensions=[TenantExtension(policy, **options), Outbox()])

    @flow.workflow(name="report")
    async def report(ctx: FlowContext, month: int) -> str:
        return f"report of month {month}"

    @flow.workflow(name="approval")
    async def approval(ctx: FlowContext) -> str:
        return str(await ctx.wait_signal("approved"))

    return flow


async def prepare(owner: str, web: str) -> None:
    """What a deployment does once: tables and columns, a role for the requests, its rows."""
    async with make_flow(owner):
        connection = await asyncpg.connect(owner)
        await connection.execute(
            f"CREATE ROLE web LOGIN PASSWORD '{urlsplit(web).password}'; CREATE TABLE outbox "
            "(org text, status text); GRANT INSERT ON outbox TO web"
        )
        await connection.close()
        await install_row_security(owner, role="web")


async def visit(flow: Flow, ada: User, eve: User) -> None:
    """What two tenants can do, and can't."""
    run = await flow.as_(ada).start("approval", idempotency_key="may")
    print("Ada's runs:", await flow.as_(ada).runs.count())
    print("Eve's runs:", await flow.as_(eve).runs.count())
    for attempt in (
        flow.as_(eve).send_signal(run, "approved", "by Eve"),
        flow.as_(eve).result(run, timeout=5),
        flow.as_(eve).cancel(run),
    ):
        try:
            await attempt
        except RunNotFoundError as error:
            print("Eve:", type(error).__name__)
    assert await flow.as_(eve).start("approval", idempotency_key="may") != run
    try:
        await flow.as_(User("Bob", ada.org_id, "reader")).cancel(run)
    except AccessDeniedError as error:
        print("Bob:", error)
    await flow.as_(ada).send_signal(run, "approved", "by Ada")
    print("Ada's run ended:", await flow.as_(ada).result(run, timeout=30))
    print("Eve's report:", await flow.as_(eve).run("report", 5, timeout=30))


async def main() -> None:
    """Run it all on a database of its own."""
    with EmbeddedPostgres() as server:
        parts = urlsplit(server.dsn)
        host = parts.netloc.rpartition("@")[2]
        web = urlunsplit(parts._replace(netloc=f"web:{uuid4().hex}@{host}"))
        await prepare(server.dsn, web)
        workers, requests = make_flow(server.dsn), make_flow(web, row_security=True)
        async with workers, requests:
            serving = asyncio.create_task(workers.run_worker())
            await visit(requests, User("Ada", uuid4(), "admin"), User("Eve", uuid4(), "admin"))
            print("All runs, for the service:", await workers.as_(SYSTEM).runs.count())
            # The second wall alone: what plain SQL of the requests' role shows without a tenant.
            bare = await asyncpg.connect(web)
            print("Without a tenant:", await bare.fetchval("SELECT count(*) FROM forktex_flow.run"))
            await bare.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())

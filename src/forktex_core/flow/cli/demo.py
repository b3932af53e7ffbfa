# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow demo``: orders that are paid, approved and shipped, for some seconds, on a
Postgres of its own or on one that is given.
"""

import asyncio
import contextlib
import importlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import click

from forktex_core.flow.cli.failing import WRONG, Failure, finish
from forktex_core.flow.cli.output import show
from forktex_core.flow.context import FlowContext
from forktex_core.flow.flow import Flow
from forktex_core.flow.retry import Retry
from forktex_core.flow.step_context import StepContext
from forktex_core.flow.store.sql import quote_identifier


@click.command()
@click.option("--database-url", metavar="URL", help="A Postgres; one of its own by default.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True, help="How long."
)
def demo(database_url: str | None, seconds: float) -> None:
    """Show a Flow at work: orders are started, paid with retries, approved by a signal and shipped
    by a child. Nothing of it stays.
    """
    with _server(database_url) as url:
        finish(_demo(url, seconds))


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    try:
        # By name: flow knows nothing of its siblings; a command composes them, as services do.
        embedded = importlib.import_module("forktex_core.embedded")
    except ModuleNotFoundError as error:
        raise Failure(f"{error}: give --database-url", WRONG) from error
    try:
        with embedded.EmbeddedPostgres(durable=False) as server:
            yield server.dsn
    except embedded.EmbeddedError as error:
        raise Failure(f"no Postgres of its own: {error}; or give --database-url", WRONG) from error


def orders(flow: Flow) -> None:
    """Register what the demo runs."""

    @flow.step(name="charge", retries=Retry(max_attempts=4, initial=0.2))
    async def charge(ctx: StepContext, cents: int) -> str:
        await asyncio.sleep(random.uniform(0.05, 0.3))  # noqa: S311 - a payment service's mood
        if random.random() < 0.3:  # noqa: S311
            raise ConnectionError("the payment service hung up")
        return f"receipt for {cents}"

    @flow.step(name="pack")
    async def pack(ctx: StepContext, receipt: str) -> str:
        await asyncio.sleep(random.uniform(0.1, 0.8))  # noqa: S311
        return f"parcel ({receipt})"

    @flow.workflow(name="shipping")
    async def shipping(ctx: FlowContext, receipt: str) -> str:
        return await pack(ctx, receipt)

    @flow.workflow(name="order")
    async def order(ctx: FlowContext, cents: int) -> str:
        receipt = await charge(ctx, cents)
        if cents > 5000:
            await ctx.wait_signal("approved")
        return await ctx.run_child(shipping, receipt)


@asynccontextmanager
async def _serving(url: str) -> AsyncIterator[Flow]:
    schema = f"forktex_flow_demo_{secrets.token_hex(4)}"
    flow = Flow(url, schema=schema)
    orders(flow)
    try:
        async with flow:
            worker = asyncio.create_task(flow.run_worker(drain=1.0))
            try:
                yield flow
            finally:
                flow.stop_workers()
                await worker
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(url.replace("+asyncpg", "", 1))
            await connection.execute(f"DROP SCHEMA IF EXISTS {quote_identifier(schema)} CASCADE")
            await connection.close()


async def _demo(url: str, seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from forktex_core.flow.cli.looking import latest_runs

    console = Console()
    async with _serving(url) as flow:
        business = asyncio.create_task(_business(flow))
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        with live or contextlib.nullcontext():
            while loop.time() < until:
                await asyncio.sleep(0.25)
                if live is not None:
                    live.update(await latest_runs(flow), refresh=True)
        business.cancel()
        await asyncio.gather(business, return_exceptions=True)
        show(await latest_runs(flow))
        await _conclude(flow)


async def _business(flow: Flow) -> None:
    """Start orders, and approve the large ones."""
    while True:
        await flow.start("order", random.randrange(100, 9000))  # noqa: S311
        waiting = await flow.runs.where(workflow="order", status="waiting").page(5)
        for run in waiting.runs:
            if run.waiting_for == "signal 'approved'":
                await flow.send_signal(run.id, "approved", idempotency_key="once")
        await asyncio.sleep(0.3)


async def _conclude(flow: Flow) -> None:
    summary = await flow.runs.summary()
    click.echo(", ".join(f"{n} {status}" for status, n in summary.by_status.items()))
    tried: Any = await flow.runs.where(workflow="order", status="succeeded").first()
    if tried is None:
        return
    told = await flow.runs.timeline(tried.id)
    click.echo(f"What happened to order {tried.id}:")
    for event in told.events:
        took = "" if event.duration is None else f" ({event.duration.total_seconds():.3f} s)"
        again = f" after {len(event.attempts)} attempts" if len(event.attempts) > 1 else ""
        click.echo(f"  {event.kind} {event.name}{again}{took} {event.detail}".rstrip())

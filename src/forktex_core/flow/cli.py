# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow``: run workers, bring schemas up to date, and audit bodies from the command line.

Exit codes: 0 success, 1 the work failed, 2 the command line was wrong. Those of ``audit`` stand
with that command.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import click

from forktex_core.flow.audit_command import audit_command, journal_command
from forktex_core.flow.entrypoint import load
from forktex_core.flow.errors import FlowError
from forktex_core.flow.flow import Flow


@click.group()
@click.version_option(package_name="forktex-core")
def main() -> None:
    """Durable execution on Postgres."""


@main.command()
@click.argument("entrypoint", metavar="PACKAGE.MODULE:FLOW")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    default=("default",),
    show_default=True,
    help="A queue to serve; repeatable.",
)
@click.option(
    "--concurrency", default=100, show_default=True, help="Runs advanced at the same time."
)
@click.option(
    "--drain", default=20.0, show_default=True, help="Seconds that running steps get on SIGTERM."
)
@click.option("--name", help="What the worker is called in views.")
@click.option("--log-level", default="INFO", show_default=True)
def worker(  # noqa: PLR0917 - click passes them by name
    entrypoint: str,
    queues: tuple[str, ...],
    concurrency: int,
    drain: float,
    name: str | None,
    log_level: str,
) -> None:
    """Serve the workflows of a Flow until SIGTERM or SIGINT; a second signal stops at once."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    flow = load(entrypoint)
    settings: dict[str, Any] = {"queues": queues, "concurrency": concurrency, "drain": drain} | (
        {"name": name} if name else {}
    )
    _run(_serve(flow, settings))


@main.command()
@click.argument("entrypoint", metavar="PACKAGE.MODULE:FLOW")
def migrate(entrypoint: str) -> None:
    """Bring the schema of a Flow to this release's version."""
    _run(_migrate(load(entrypoint)))


main.add_command(audit_command)
main.add_command(journal_command)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the worker's event loop: uvloop's when it is installed, else asyncio's."""
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    return factory  # type: ignore[no-any-return]


async def _serve(flow: Flow, settings: dict[str, Any]) -> None:
    async with flow:
        await flow.run_worker(handle_signals=True, **settings)


async def _migrate(flow: Flow) -> None:
    async with flow:
        click.echo(f"schema {flow.schema} is up to date")


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work, loop_factory=event_loop())
    except FlowError as error:
        raise click.ClickException(str(error)) from error

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow worker``: one process that serves, or a supervisor of several."""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from forktex_core.flow.cli.failing import WRONG, Failure, finish
from forktex_core.flow.cli.loop import event_loop
from forktex_core.flow.entrypoint import load
from forktex_core.flow.flow import Flow
from forktex_core.flow.logs import JsonLines, LogContext

_ORPHAN_LOOK = 1.0


@click.command()
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
    "--concurrency",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Runs that each process advances at the same time.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Seconds that running steps get on SIGTERM.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes; one that dies is started again.",
)
@click.option("--name", help="What the worker is called in views.")
@click.option("--reload", is_flag=True, help="Start anew whenever a source file changes.")
@click.option(
    "--reload-dir",
    "folders",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Where --reload looks for *.py; the current folder by default.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object a line, with run, step and worker.",
)
@click.option("--supervised-by", type=int, hidden=True)
def worker(
    entrypoint: str,
    queues: tuple[str, ...],
    concurrency: int,
    drain: float,
    processes: int,
    name: str | None,
    reload: bool,
    folders: tuple[Path, ...],
    log_level: str,
    log_format: str,
    supervised_by: int | None,
) -> None:
    """Serve the workflows of a Flow until SIGTERM or SIGINT; a second signal stops at once.

    With --processes or --reload this process only looks after others that serve.
    """
    _set_up_logging(log_level, log_format)
    if not all(queues):
        raise Failure("--queue: a queue has a name", WRONG)
    if processes > 1 or reload:
        from forktex_core.flow.cli.supervisor import Supervisor

        options = _options(queues, concurrency, drain)
        options += ["--log-level", log_level, "--log-format", log_format]
        supervisor = Supervisor(
            lambda number: _command(entrypoint, options, name, number if processes > 1 else None),
            processes, (folders or (Path.cwd(),)) if reload else (),
        )  # fmt: skip
        click.get_current_context().exit(finish(supervisor.run()))
    flow = load(entrypoint)
    settings: dict[str, Any] = {"queues": queues, "concurrency": concurrency, "drain": drain} | (
        {"name": name} if name else {}
    )
    finish(_serve(flow, settings, supervised_by), event_loop())


def _set_up_logging(level: str, form: str) -> None:
    handler = logging.StreamHandler()
    if form == "json":
        handler.addFilter(LogContext())
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _options(queues: tuple[str, ...], concurrency: int, drain: float) -> list[str]:
    given = [word for queue in queues for word in ("--queue", queue)]
    return [
        *given, "--concurrency", str(concurrency), "--drain", str(drain),
        "--supervised-by", str(os.getpid()),
    ]  # fmt: skip


def _command(
    entrypoint: str, options: list[str], name: str | None, number: int | None
) -> list[str]:
    command = [sys.executable, "-m", "forktex_core.flow.cli", "worker", entrypoint, *options]
    if name:
        command += ["--name", name if number is None else f"{name}-{number}"]
    return command


async def _serve(flow: Flow, settings: dict[str, Any], supervised_by: int | None) -> None:
    async with flow:
        serving = asyncio.ensure_future(flow.run_worker(handle_signals=True, **settings))
        orphan = None
        if supervised_by is not None:
            orphan = asyncio.create_task(_end_with(supervised_by, flow))
        try:
            await serving
        finally:
            if orphan is not None:
                orphan.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await orphan


async def _end_with(supervisor: int, flow: Flow) -> None:
    """Stop in good order when the supervisor is gone: nobody else would stop this process."""
    while os.getppid() == supervisor:  # noqa: ASYNC110 - the kernel tells it no other way
        await asyncio.sleep(_ORPHAN_LOOK)
    flow.stop_workers()

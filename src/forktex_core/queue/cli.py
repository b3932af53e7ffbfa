# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-queue``: look at a queue, mend it, and run workers."""

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forktex_core.queue.errors import ConfigurationError, QueueError
from forktex_core.queue.inspect import DeadLetter, Stats, as_json, metrics
from forktex_core.queue.queue import Queue

console = Console()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--redis", "url", default="redis://localhost:6379/0", show_default=True)
@click.option("--queue", "name", default="default", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def main(context: click.Context, url: str, name: str, as_json: bool) -> None:
    """Look at a queue, mend it, and run workers."""
    context.obj = (url, name, as_json)


def ask[T](context: click.Context, question: Callable[[Queue], Awaitable[T]]) -> T:
    """The answer of the queue that the options name; its errors end the command."""
    url, name, _ = context.obj

    async def run() -> T:
        async with Queue(url, name, tracing=False) as queue:
            return await question(queue)

    try:
        return asyncio.run(run())
    except QueueError as error:
        raise click.ClickException(str(error)) from error


def show(context: click.Context, value: Any, table: Callable[[Any], Table]) -> None:
    """Print a value as JSON or as a table."""
    if context.obj[2]:
        click.echo(as_json(value))
    else:
        console.print(table(value))


def table_of(columns: str, rows: list[tuple[Any, ...]]) -> Table:
    """A table of rows under columns named in one string."""
    table = Table(*columns.split())
    for row in rows:
        # As plain text: a failure may hold what looks like rich's markup.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


@main.command()
@click.pass_context
def stats(context: click.Context) -> None:
    """Depths, ages and counters."""
    found = ask(context, Queue.stats)
    show(context, asdict(found), lambda _: stats_table(found))


def stats_table(found: Stats) -> Table:
    """Depths, then counters."""
    rows: list[tuple[Any, ...]] = [
        (f"waiting, {name}", lane.waiting, f"oldest {lane.age} s" if lane.age else "")
        for name, lane in found.lanes.items()
    ]
    rows += [
        ("held", found.held, ""),
        ("delayed", found.delayed, ""),
        ("limited", found.limited, ""),
    ]
    rows += [("dead", found.dead, ""), ("paused", found.paused, "")]
    rows += [
        (job, sum(events.values()), ", ".join(f"{k} {v}" for k, v in sorted(events.items())))
        for job, events in sorted(found.counters.items())
    ]
    return table_of("what number detail", rows)


@main.command()
@click.pass_context
def workers(context: click.Context) -> None:
    """The workers and what they hold."""
    found = ask(context, Queue.stats).workers
    rows = [(w.name, "alive" if w.alive else "dead", w.holding, w.info.get("pid")) for w in found]
    value = [asdict(worker) for worker in found]
    show(context, value, lambda _: table_of("worker state holds pid", rows))


@main.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@click.pass_context
def failures(context: click.Context, limit: int) -> None:
    """The newest dead letters."""
    found: list[DeadLetter] = ask(context, lambda queue: queue.failures(limit=limit))
    rows = [
        (dead.letter, dead.name, dead.reason, dead.attempts, dead.failure.strip().split("\n")[-1])
        for dead in found
    ]
    value = [asdict(dead) for dead in found]
    show(context, value, lambda _: table_of("letter job reason attempts failure", rows))


@main.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.pass_context
def requeue(context: click.Context, letters: tuple[str, ...], everything: bool) -> None:
    """Put dead letters back into the queue."""
    if bool(letters) == everything:
        raise click.UsageError("name letters (see `failures`), or give --all")
    chosen = None if everything else letters
    report(context, "requeued", ask(context, lambda queue: queue.requeue(chosen)))


@main.command()
@click.argument("what", type=click.Choice(["ready", "parked", "dead"]))
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def purge(context: click.Context, what: Any, yes: bool) -> None:
    """Drop waiting jobs, delayed and limited ones, or dead letters."""
    if not yes:
        click.confirm(
            f"Drop all {what} jobs of queue {context.obj[1]!r} for good?", abort=True, err=True
        )
    report(context, "purged", ask(context, lambda queue: queue.purge(what)))


@main.command()
@click.pass_context
def pause(context: click.Context) -> None:
    """Let no worker take a job."""
    ask(context, Queue.pause)
    report(context, "paused", 1)


@main.command()
@click.pass_context
def resume(context: click.Context) -> None:
    """Undo pause."""
    ask(context, Queue.resume)
    report(context, "resumed", 1)


@main.command()
@click.argument("job_id")
@click.pass_context
def cancel(context: click.Context, job_id: str) -> None:
    """Cancel a job by its id."""
    report(context, "cancelled", ask(context, lambda queue: queue.handle(job_id).cancel()))


@main.command(name="metrics")
@click.pass_context
def print_metrics(context: click.Context) -> None:
    """The numbers in Prometheus' text format."""
    click.echo(metrics(ask(context, Queue.stats)), nl=False)


@main.command()
@click.argument("where")
@click.option("--concurrency", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--burst", is_flag=True, help="End when nothing is left.")
@click.pass_context
def work(context: click.Context, where: str, concurrency: int, burst: bool) -> None:
    """Run a worker of the queue object at WHERE, as in `app.jobs:queue`."""
    queue = queue_at(where)
    if context.find_root().get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE:
        queue.configure(context.obj[0])
    try:
        asyncio.run(queue.process(concurrency=concurrency, burst=burst))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def queue_at(where: str) -> Queue:
    """The queue object at ``module:attribute``; the current folder is looked into, too."""
    module, _, attribute = where.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        queue = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise click.ClickException(f"no module {error.name!r} here or installed") from error
    except (ValueError, TypeError):
        queue = None
    if not isinstance(queue, Queue):
        raise click.ClickException(f"{where!r} is no queue: name it as in app.jobs:queue")
    return queue


def report(context: click.Context, done: str, number: int) -> None:
    """Say what was done."""
    click.echo(json.dumps({done: int(number)}) if context.obj[2] else f"{done}: {int(number)}")

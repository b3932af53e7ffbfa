# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow runs show`` and ``runs watch``."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from forktex_core.flow.cli.failing import FAILED, finish
from forktex_core.flow.cli.listing import run_row
from forktex_core.flow.cli.output import (
    ago,
    lasting,
    print_json,
    printable,
    shortened,
    show,
    table,
)
from forktex_core.flow.cli.target import Target, about_a_flow, as_json
from forktex_core.flow.inspect.explain import Finding
from forktex_core.flow.inspect.inspecting import Inspecting
from forktex_core.flow.inspect.rows import RunDetail
from forktex_core.flow.inspect.timeline import Event, Timeline
from forktex_core.flow.transitions import Status

if TYPE_CHECKING:
    from rich.table import Table

_EVENTS = ("at", "what", "name", "took", "result")


@click.command()
@click.argument("run_id", type=click.UUID)
@click.option("--no-payloads", is_flag=True, help="Leave out results, signals and errors.")
@as_json
@about_a_flow
def show_run(target: Target, run_id: UUID, no_payloads: bool, as_json: bool) -> None:
    """Show a run: how it stands, why it doesn't move, and what happened to it."""
    told, findings = finish(_look(target, run_id, payloads=not no_payloads))
    if as_json:
        print_json({
            "run": told.run, "findings": findings, "events": told.events, "workers": told.workers,
        })  # fmt: skip
        return
    show(table("", ("", ""), _facts(told.run, payloads=not no_payloads)))
    for finding in findings:
        click.echo(f"• {printable(str(finding))}")
    click.echo()
    show(table("what happened", _EVENTS, (event_row(e, told.run) for e in told.events)))


async def _look(target: Target, run_id: UUID, *, payloads: bool) -> tuple[Timeline, list[Finding]]:
    async with target.opened() as flow:
        told = await flow.runs.timeline(run_id, payloads=payloads)
        return told, await flow.runs.explain(run_id)


def _facts(run: RunDetail, *, payloads: bool) -> Iterator[tuple[str, Any]]:
    yield "run", run.id
    yield "workflow", f"{run.workflow}@{run.version}"
    yield "status", run.status
    yield "queue", f"{run.queue}, priority {run.priority}" + (f", key {run.key}" if run.key else "")
    for name in ("created_at", "started_at", "finished_at", "due_at", "deadline_at"):
        if (moment := getattr(run, name)) is not None:
            yield name.removesuffix("_at"), f"{moment:%Y-%m-%d %H:%M:%S.%f} ({ago(moment)})"
    for name in ("parent_id", "schedule", "idempotency_key", "origin", "unreadable"):
        if getattr(run, name) is not None:
            yield name, getattr(run, name)
    if run.metadata:
        yield "metadata", shortened(run.metadata, 500)
    if payloads:
        yield "input", shortened(run.input, 500)
        yield "output", shortened(run.output, 500)
        if run.error is not None:
            yield "error", run.error.traceback or str(run.error)


def event_row(event: Event, run: RunDetail) -> tuple[Any, ...]:
    """Return an event as a line of a table; its time counts from the run's creation."""
    what = f"{event.kind} (rollback)" if event.compensation else event.kind
    if len(event.attempts) > 1:
        what += f", {len(event.attempts)} attempts"
    shown = [event.detail]
    if event.error is not None:
        shown.append(str(event.error))
    elif event.value is not None:
        shown.append(shortened(event.value))
    elif event.failed:
        shown.append("failed")
    return (
        f"+{(event.at - run.created_at).total_seconds():.3f} s", what, event.name,
        lasting(event.duration), ": ".join(filter(None, shown)),
    )  # fmt: skip


@click.command()
@click.argument("run_id", type=click.UUID, required=False)
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True,
    help="Seconds between looks.",
)  # fmt: skip
@click.option("--times", type=click.IntRange(min=1), help="Without a run: end after so many looks.")
@as_json
@about_a_flow
def watch(
    target: Target, run_id: UUID | None, interval: float, times: int | None, as_json: bool
) -> None:
    """Follow a run until it ends, or (without RUN_ID) see what all of them do.

    Exits with 0 when the run succeeded, with 1 when it failed or was cancelled. With --json one
    line is printed for each event.
    """
    if run_id is None:
        finish(_watch_all(target, interval, times, as_json))
        return
    if not finish(_follow(target, run_id, interval, as_json)):
        click.get_current_context().exit(FAILED)


async def _follow(target: Target, run_id: UUID, interval: float, as_json: bool) -> bool:
    event = None
    async with target.opened() as flow:
        run = await flow.runs.get(run_id)
        async for event in flow.runs.stream(run_id, poll=interval):
            if as_json:
                print_json(event, line=True)
            else:
                at, what, name, took, result = event_row(event, run)
                line = "  ".join(filter(None, (f"{at:>12}", f"{what:<10}", name, took, result)))
                click.echo(printable(line))
    return event is not None and event.name == "succeeded"


async def _watch_all(target: Target, interval: float, times: int | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    async with target.opened() as flow:
        console = Console()
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if live is not None and not as_json:
            live.start()
        try:
            while times is None or times > 0:
                if as_json:
                    counts = (await flow.runs.where(status=_LIVELY).summary()).by_status
                    latest = (await flow.runs.page(15)).runs
                    print_json({"unfinished": counts, "latest": latest}, line=True)
                elif live is not None:
                    live.update(await latest_runs(flow), refresh=True)
                else:
                    show(await latest_runs(flow))
                times = None if times is None else times - 1
                if times != 0:
                    await asyncio.sleep(interval)
        finally:
            if live is not None:
                live.stop()


_LIVELY: tuple[Status, ...] = ("pending", "running", "waiting", "paused")


async def latest_runs(flow: Inspecting) -> "Table":
    """Return a table of the newest runs, with counts of what is not finished."""
    counts = (await flow.runs.where(status=_LIVELY).summary()).by_status
    latest = (await flow.runs.page(15)).runs
    title = ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing unfinished"
    columns = ("run", "workflow", "queue", "status", "created", "took", "what about it")
    return table(title, columns, (run_row(run) for run in latest))

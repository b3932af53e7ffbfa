# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow runs list``."""

from typing import Any

import click

from forktex_core.flow.cli.failing import WRONG, Failure, finish
from forktex_core.flow.cli.filters import which_runs
from forktex_core.flow.cli.output import ago, lasting, print_json, show, table
from forktex_core.flow.cli.target import Target, about_a_flow, as_json
from forktex_core.flow.errors import QueryError
from forktex_core.flow.inspect.rows import Page, RunInfo, Summary
from forktex_core.flow.inspect.runs import Runs
from forktex_core.flow.inspect.statement import ORDERS, Order

_COLUMNS = ("run", "workflow", "queue", "status", "created", "took", "what about it")


@click.command()
@which_runs
@click.option("--order", type=click.Choice(ORDERS), default=ORDERS[0], show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", metavar="CURSOR", help="Go on behind the page that gave this cursor.")
@click.option("--count", is_flag=True, help="Only say how many there are.")
@click.option("--summary", is_flag=True, help="Only count by status, workflow and queue.")
@as_json
@about_a_flow
def list_runs(
    target: Target,
    conditions: dict[str, Any],
    order: Order,
    limit: int,
    after: str | None,
    count: bool,
    summary: bool,
    as_json: bool,
) -> None:
    """List runs, the newest first; the last line tells how to get the next page."""
    try:
        query = target.calls.runs.where(**conditions).order_by(order)
    except QueryError as error:
        raise Failure(str(error), WRONG) from error
    if count:
        number = finish(_count(target, query))
        print_json({"count": number}) if as_json else click.echo(number)
        return
    if summary:
        counts = finish(_summary(target, query))
        print_json(counts) if as_json else show_summary(counts)
        return
    page = finish(_page(target, query, limit, after))
    if as_json:
        print_json(page)
        return
    show(table("", _COLUMNS, (run_row(run) for run in page.runs)))
    if page.next is not None:
        click.echo(f"more: add --after {page.next}")


async def _page(target: Target, query: Runs, limit: int, after: str | None) -> Page:
    async with target.opened():
        return await query.page(limit, after=after)


async def _count(target: Target, query: Runs) -> int:
    async with target.opened():
        return await query.count()


async def _summary(target: Target, query: Runs) -> Summary:
    async with target.opened():
        return await query.summary()


def run_row(run: RunInfo) -> tuple[Any, ...]:
    """Return a run as a line of a table."""
    return (
        run.id, f"{run.workflow}@{run.version}", run.queue,
        "halted" if run.halted else run.status, ago(run.created_at), lasting(run.duration),
        about(run),
    )  # fmt: skip


def about(run: RunInfo) -> str:
    """Return what matters most of how a run stands."""
    if run.error is not None:
        return str(run.error)[:120]
    if run.status == "paused":
        return f"by {run.paused_by}" if run.paused_by else ""
    if run.status == "running":
        return f"worker {run.worker_id}"
    due = f"due {ago(run.due_at)}" if run.due_at is not None else ""
    return ", ".join(filter(None, (run.waiting_for, due)))


def show_summary(counts: Summary) -> None:
    """Print counts as a table of statuses by workflow and queue."""
    statuses = list(counts.by_status)
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for status, workflow, queue, n in counts.cells:
        rows.setdefault((workflow, queue), {})[status] = n
    columns = ("workflow", "queue", *statuses)
    lines = [
        (*place, *(found.get(s, "") for s in statuses)) for place, found in sorted(rows.items())
    ]
    lines.append(("all", "", *(counts.by_status[s] for s in statuses)))
    show(table(f"{counts.total} runs", columns, lines))

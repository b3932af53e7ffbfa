# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow workers``, ``leader``, ``definitions``, ``queues`` and ``schedules``."""

import click

from forktex_core.flow.cli.failing import FAILED, finish
from forktex_core.flow.cli.output import ago, lasting, print_json, show, table
from forktex_core.flow.cli.target import Target, about_a_flow, as_json
from forktex_core.flow.inspect.fleet import LeaderState, QueueDepth, ServedDefinition, WorkerState
from forktex_core.flow.scheduling import Schedule


@click.command()
@click.option("--ended", default=0.0, help="Those that ended within so many hours, too.")
@as_json
@about_a_flow
def workers(target: Target, ended: float, as_json: bool) -> None:
    """List the workers that live, what they serve, and how busy they are."""
    found = finish(_workers(target, ended))
    if as_json:
        print_json(found)
        return
    columns = ("id", "name", "host:pid", "queues", "serves", "runs", "leads", "began", "heard of")
    show(table("workers", columns, (_worker(worker) for worker in found)))


async def _workers(target: Target, hours: float) -> list[WorkerState]:
    async with target.opened() as flow:
        return await flow.fleet.workers(ended_within=hours * 3600)


def _worker(w: WorkerState) -> tuple[object, ...]:
    lanes = ", ".join(w.lanes[:6]) + (" …" if len(w.lanes) > 6 else "")
    heard = f"ended: {w.end_reason}, {ago(w.ended_at)}" if w.ended_at else ago(w.heartbeat_at)
    return (
        w.id, w.name, f"{w.host}:{w.pid}", ", ".join(w.queues), lanes, f"{w.running}/{w.slots}",
        "yes" if w.leads else "", ago(w.started_at), f"{heard} (silent)" if w.silent else heard,
    )  # fmt: skip


@click.command()
@as_json
@about_a_flow
def leader(target: Target, as_json: bool) -> None:
    """Say which worker does the chores. Exits with 1 when none does."""
    found = finish(_leader(target))
    if as_json:
        print_json(found)
    elif found.present:
        click.echo(
            f"worker {found.worker_id} ({found.worker}, {found.host}:{found.pid}) leads in term "
            f"{found.term}, elected {ago(found.elected_at)}, seen {ago(found.seen_at)}"
        )
    else:
        click.echo(
            f"nobody leads (last seen: {ago(found.seen_at) or 'never'}): timeouts, schedules and "
            "dead workers' runs stand still; start a worker"
        )
    if not found.present:
        click.get_current_context().exit(FAILED)


async def _leader(target: Target) -> LeaderState:
    async with target.opened() as flow:
        return await flow.fleet.leader()


@click.command()
@as_json
@about_a_flow
def definitions(target: Target, as_json: bool) -> None:
    """List every version of every workflow that was ever served, and by how many workers now."""
    found = finish(_definitions(target))
    if as_json:
        print_json(found)
        return
    rows = ((d.workflow, d.version, d.kind, d.workers, ago(d.registered_at)) for d in found)
    show(table("definitions", ("workflow", "version", "kind", "workers", "registered"), rows))


async def _definitions(target: Target) -> list[ServedDefinition]:
    async with target.opened() as flow:
        return await flow.fleet.definitions()


@click.command()
@as_json
@about_a_flow
def queues(target: Target, as_json: bool) -> None:
    """List the queues that have something to do, with their limits."""
    found = finish(_queues(target))
    if as_json:
        print_json(found)
        return
    columns = ("queue", "due", "oldest", "later", "running", "limits")
    show(table("queues", columns, (_queue(queue) for queue in found)))


async def _queues(target: Target) -> list[QueueDepth]:
    async with target.opened() as flow:
        return await flow.fleet.queues()


def _queue(q: QueueDepth) -> tuple[object, ...]:
    limits = [
        "paused" if q.paused else "",
        f"{q.concurrency} at a time" if q.concurrency else "",
        f"{q.per_key} for each key" if q.per_key else "",
        f"{q.rate} in {q.rate_period:g} s" if q.rate else "",
    ]
    return q.queue, q.due, ago(q.oldest_due_at), q.later, q.running, ", ".join(filter(None, limits))


@click.command()
@as_json
@about_a_flow
def schedules(target: Target, as_json: bool) -> None:
    """List the schedules: what they start, when they fired, and when they fire next."""
    found = finish(_schedules(target))
    if as_json:
        print_json(found)
        return
    columns = ("schedule", "starts", "when", "next", "last", "last run", "skipped", "overlap")
    show(table("schedules", columns, (_schedule(schedule) for schedule in found)))


async def _schedules(target: Target) -> list[Schedule]:
    async with target.opened() as flow:
        return await flow.schedules()


def _schedule(s: Schedule) -> tuple[object, ...]:
    from datetime import timedelta

    when = ", ".join(s.cron) or ", ".join(str(at) for at in s.at)
    if s.every is not None:
        when = f"every {lasting(timedelta(seconds=s.every))}"
    starts = s.workflow if s.version is None else f"{s.workflow}@{s.version}"
    upcoming = "paused" if s.paused else ago(s.next_at)
    return (
        s.name, starts, f"{when} {s.timezone}", upcoming, ago(s.last_at), s.last_run, s.skipped,
        s.overlap,
    )  # fmt: skip

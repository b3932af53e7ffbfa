# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow runs cancel``, ``pause``, ``resume``, ``retry``, ``fork``, ``signal``, ``export``.

Commands that take several runs go through all of them: one that can't be is told and the others are
done; the exit code is that of the first failure.
"""

import getpass
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from forktex_core.flow.acting import ActingFlow
from forktex_core.flow.cli.failing import WRONG, Failure, code_of, finish
from forktex_core.flow.cli.output import print_json
from forktex_core.flow.cli.target import Target, about_a_flow, as_json
from forktex_core.flow.errors import FlowError

type Act = Callable[[ActingFlow, UUID], Awaitable[str]]

several = click.argument("run_ids", metavar="RUN_ID...", type=click.UUID, nargs=-1, required=True)


def _each(target: Target, run_ids: tuple[UUID, ...], act: Act, as_json: bool) -> None:
    done, code = finish(_do(target, run_ids, act))
    if as_json:
        print_json(done)
    else:
        for one in done:
            failed = "error" in one
            said = one["error"] if failed else f"run {one['run_id']} {one['done']}"
            click.echo(f"Error: {said}" if failed else said, err=failed)
    click.get_current_context().exit(code)


async def _do(
    target: Target, run_ids: tuple[UUID, ...], act: Act
) -> tuple[list[dict[str, Any]], int]:
    found: list[dict[str, Any]] = []
    code = 0
    async with target.opened() as flow:
        for run_id in run_ids:
            try:
                found.append({"run_id": run_id, "done": await act(flow, run_id)})
            except FlowError as error:
                code = code or code_of(error)
                found.append({"run_id": run_id, "error": str(error), "code": code_of(error)})
    return found, code


@click.command()
@several
@click.option("--reason", help="Why, for the error and for views.")
@click.option("--force", is_flag=True, help="At once: no clean-up, no compensations.")
@as_json
@about_a_flow
def cancel(
    target: Target, run_ids: tuple[UUID, ...], reason: str | None, force: bool, as_json: bool
) -> None:
    """Ask runs to stop; they may clean up."""

    async def act(flow: ActingFlow, run_id: UUID) -> str:
        told = await flow.cancel(run_id, reason, force=force)
        return "is asked to stop" if told else "had ended already"

    _each(target, run_ids, act, as_json)


@click.command()
@several
@click.option("--by", help="Who pauses them; you, on this machine, by default.")
@as_json
@about_a_flow
def pause(target: Target, run_ids: tuple[UUID, ...], by: str | None, as_json: bool) -> None:
    """Let runs stand still until they are resumed."""

    async def act(flow: ActingFlow, run_id: UUID) -> str:
        await flow.pause(run_id, by=by or _operator())
        return "is paused"

    _each(target, run_ids, act, as_json)


def _operator() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "somebody"
    return f"{name} on {socket.gethostname()}"


@click.command()
@several
@as_json
@about_a_flow
def resume(target: Target, run_ids: tuple[UUID, ...], as_json: bool) -> None:
    """Let runs go on that are paused, or were halted and whose cause is mended."""

    async def act(flow: ActingFlow, run_id: UUID) -> str:
        await flow.resume(run_id)
        return "goes on"

    _each(target, run_ids, act, as_json)


@click.command()
@several
@as_json
@about_a_flow
def retry(target: Target, run_ids: tuple[UUID, ...], as_json: bool) -> None:
    """Let failed, cancelled or timed-out runs go on from the step that failed them."""

    async def act(flow: ActingFlow, run_id: UUID) -> str:
        await flow.retry(run_id)
        return "is tried again"

    _each(target, run_ids, act, as_json)


@click.command()
@click.argument("run_id", type=click.UUID)
@click.option("--from-step", required=True, help="The first step that the new run executes.")
@click.option("--version", type=int, help="Another version of the workflow.")
@click.option("--queue", help="Another queue.")
@click.option("--idempotency-key", help="A second fork with the key is the first one's run.")
@as_json
@about_a_flow
def fork(target: Target, run_id: UUID, from_step: str, as_json: bool, **options: Any) -> None:
    """Start a new run that has done what RUN_ID had done before a step; print its id."""

    async def work() -> UUID:
        async with target.opened() as flow:
            return await flow.fork(run_id, from_step=from_step, **options)

    new = finish(work())
    print_json({"run_id": new}) if as_json else click.echo(new)


@click.command()
@click.argument("run_id", type=click.UUID)
@click.argument("name")
@click.option("--payload", help="JSON; null by default.")
@click.option("--idempotency-key", help="A second signal with the key is dropped.")
@as_json
@about_a_flow
def signal(
    target: Target,
    run_id: UUID,
    name: str,
    payload: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Send the signal NAME to a run."""
    try:
        value = None if payload is None else json.loads(payload)
    except ValueError as error:
        raise Failure(f"--payload is JSON, not {payload!r}: {error}", WRONG) from error

    async def work() -> bool:
        async with target.opened() as flow:
            return await flow.send_signal(run_id, name, value, idempotency_key=idempotency_key)

    sent = finish(work())
    if as_json:
        print_json({"sent": sent})
    else:
        click.echo("sent" if sent else "not sent: its idempotency key was used before")


@click.command()
@click.argument("run_id", type=click.UUID)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write.")
@about_a_flow
def export(target: Target, run_id: UUID, output: Path | None) -> None:
    """Write a run's history as JSON: forktex_core.flow.replayer replays it in tests, for ever."""

    async def work() -> str:
        async with target.opened() as flow:
            return await flow.history(run_id)

    text = finish(work())
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--output: {error}", WRONG) from error

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow graph render``."""

from pathlib import Path
from uuid import UUID

import click

from forktex_core.flow.acting import ActingFlow
from forktex_core.flow.cli.failing import NOT_THERE, WRONG, Failure, finish
from forktex_core.flow.cli.lazy import LazyGroup
from forktex_core.flow.cli.target import Target, about_a_flow
from forktex_core.flow.flow import Flow
from forktex_core.flow.graph.definition import Graph

_COMMANDS = {
    "render": (__name__, "render", "Draw a graph, and where a run is in it."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def graph() -> None:
    """Draw graphs."""


@click.command()
@click.argument("name")
@click.option("--version", type=int, help="A version; the newest (the active one) by default.")
@click.option("--run", "run_id", type=click.UUID, help="Show where this run is.")
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "dot", "svg"]), default="mermaid",
    show_default=True,
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write.")
@about_a_flow
def render(
    target: Target,
    name: str,
    version: int | None,
    run_id: UUID | None,
    form: str,
    output: Path | None,
) -> None:
    """Draw the graph NAME: one that the app registers, or NAMESPACE/NAME of those in the database.

    Only a stored graph, and --run, need the database.
    """
    picture = finish(_render(target, name, version, run_id, form))
    if output is None:
        click.echo(picture)
        return
    try:
        output.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--output: {error}", WRONG) from error


async def _render(
    target: Target, name: str, version: int | None, run_id: UUID | None, form: str
) -> str:
    graph = _registered(target.flow, name, version)
    if graph is None and "/" not in name:
        there = ", ".join(w.lane for w in target.flow.workflows if w.kind == "graph") or "none"
        raise Failure(f"there is no graph {name!r} in the app: it registers {there}", NOT_THERE)
    position = None
    if graph is None or run_id is not None:
        async with target.opened() as flow:
            graph = graph or await _stored(flow, name, version)
            if run_id is not None:
                run = await flow.runs.get(run_id)
                position = await flow.graph_position(run.id)
    drawn = {"mermaid": graph.to_mermaid, "dot": graph.to_dot, "svg": graph.to_svg}[form]
    return drawn(position)


def _registered(flow: Flow, name: str, version: int | None) -> Graph | None:
    found = [
        w
        for w in flow.workflows
        if w.kind == "graph" and w.name == name and version in (None, w.version)
    ]
    return max(found, key=lambda w: w.version).graph if found else None  # type: ignore[attr-defined]


async def _stored(flow: ActingFlow, name: str, version: int | None) -> Graph:
    from forktex_core.flow.definitions import GraphNotFoundError

    namespace, _, rest = name.removeprefix("@").partition("/")
    try:
        return await flow.definitions.get(namespace, rest, version)
    except GraphNotFoundError as error:
        raise Failure(str(error), NOT_THERE) from error

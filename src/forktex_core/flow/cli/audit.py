# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow audit`` and ``forktex-flow journal``."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from forktex_core.flow.audit import MANIFEST, Audit, Difference, Manifest, audit
from forktex_core.flow.entrypoint import CannotTell, load
from forktex_core.flow.errors import FlowError, ManifestError
from forktex_core.flow.flow import Flow
from forktex_core.flow.inflight import Journals, replay_in_flight
from forktex_core.flow.replayer import Replayed

_SAME, _CHANGED, _UNKNOWN = 0, 1, 2
_MEND = {
    "changed": "keep the old body under its version while its runs last, register the new one under"
    " version=N+1, then run with --update",
    "added": "run with --update, and commit the manifest",
    "removed": "runs of it may be in flight: ask with --database-url; --update forgets it",
    "unreadable": "nothing can be said about it",
}
_HEADS = {
    "changed": "the body has changed under the same version",
    "added": "not in the manifest",
    "removed": "in the manifest, but no longer in the code",
    "unreadable": "its source is not to be had",
}


@dataclass(slots=True)
class _Report:
    """All that a command found."""

    entrypoint: str
    manifest: str
    audit: Audit | None = None
    updated: bool = False
    problems: list[str] = field(default_factory=list)
    replayed: dict[str, int] = field(default_factory=dict)
    runs: list[Replayed] = field(default_factory=list)

    def differences(self) -> tuple[Difference, ...]:
        """Return how the code differs from the manifest; an updated one differs no more."""
        if self.audit is None:
            return ()
        left = ("unreadable",) if self.updated else tuple(_HEADS)
        return tuple(d for d in self.audit.differences if d.kind in left)

    def exit_code(self, strict: bool) -> int:
        """Return 1 for what would break runs, else 2 for what nobody knows, else 0."""
        kinds = {d.kind for d in self.differences()}
        findings = bool(self.audit and self.audit.findings)
        if "changed" in kinds or self.replayed.get("diverges") or (strict and findings):
            return _CHANGED
        unknown = kinds & {"added", "unreadable"} or self.problems or self.replayed.get("unsure")
        return _UNKNOWN if unknown else _SAME


@click.command("audit")
@click.argument("entrypoint", metavar="PACKAGE.MODULE:FLOW")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(MANIFEST),
    show_default=True,
    help="The file that holds the hashes; to be committed.",
)
@click.option("--update", is_flag=True, help="Write the manifest anew.")
@click.option("--force", is_flag=True, help="Update although a body changed under its version.")
@click.option("--strict", is_flag=True, help="Exit with 1 when the lint finds anything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--database-url", help="Replay the runs in flight there, read-only.")
@click.option("--workflow", "workflows", multiple=True, help="Replay only its runs; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="Replay this many runs at most.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that the replay of one run may take.",
)
@click.pass_context
def audit_command(
    context: click.Context, /, entrypoint: str, as_json: bool, strict: bool, **options: Any
) -> None:
    """Say whether a body changed without a new version, and which runs would break.

    Exit codes: 0 nothing changed; 1 a body changed under its version, a run in flight would
    diverge, or (--strict) the lint found something; 2 it can't be told: a workflow or version is
    not in the manifest, there is no manifest or a broken one, a body has no source, the code can't
    be imported, the database can't be reached, or a replay did not end.
    """
    report = _Report(entrypoint, str(options["manifest"]))
    flow = load(entrypoint)
    _compare(report, flow, options)
    if options["database_url"]:
        try:
            asyncio.run(_replay(report, flow, options))
        except (FlowError, ValueError) as error:
            report.problems.append(str(error))
    code = report.exit_code(strict)
    click.echo(_as_json(report, code) if as_json else "\n".join(_as_text(report, code)))
    context.exit(code)


def _compare(report: _Report, flow: Flow, options: dict[str, Any]) -> None:
    path: Path = options["manifest"]
    try:
        fresh = options["update"] and not path.exists()
        old = Manifest() if fresh else Manifest.load(path)
    except ManifestError as error:
        report.problems.append(str(error))
        report.audit = audit(flow, Manifest())
        report.audit = Audit(report.audit.bodies, (), report.audit.findings)
        return
    report.audit = audit(flow, old)
    if options["update"]:
        try:
            _write(path, report.audit.updated(old, force=options["force"]))
            report.updated = True
        except (ManifestError, OSError) as error:
            report.problems.append(str(error))


def _write(path: Path, manifest: Manifest) -> None:
    """Replace the file as a whole: a crash leaves the old one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(manifest.to_json(), encoding="utf-8")
    draft.replace(path)


# Runs in flight


async def _replay(report: _Report, flow: Flow, options: dict[str, Any]) -> None:
    url, names = options["database_url"], options["workflows"]
    unknown = sorted(set(names) - {w.name for w in flow.workflows})
    if unknown:
        raise ManifestError(f"--workflow {unknown[0]!r}: the Flow has no workflow of that name")
    report.replayed = {"fits": 0, "diverges": 0, "unsure": 0}
    with _progress() as advance:
        runs = replay_in_flight(
            flow, url, workflows=names, limit=options["limit"], timeout=options["timeout"]
        )
        async with aclosing(runs):
            async for replayed in runs:
                report.replayed[replayed.verdict] += 1
                if replayed.verdict != "fits":
                    report.runs.append(replayed)
                advance()


@contextmanager
def _progress() -> Iterator[Any]:
    """Show on stderr how many runs were replayed, when somebody looks."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} runs replayed"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda: bar.advance(task)


# What is printed


def _as_json(report: _Report, code: int) -> str:
    content = {
        "entrypoint": report.entrypoint,
        "manifest": report.manifest,
        "exit_code": code,
        "updated": report.updated,
        "problems": report.problems,
        "differences": [asdict(d) for d in report.differences()],
        "findings": [] if report.audit is None else [asdict(f) for f in report.audit.findings],
        "replayed": report.replayed or None,
        "runs": [asdict(r) | {"run_id": str(r.run_id)} for r in report.runs],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _as_text(report: _Report, code: int) -> Iterator[str]:
    for difference in report.differences():
        yield f"{difference.kind} {difference.lane}: {_HEADS[difference.kind]}"
        yield from (f"    {line}" for line in difference.diff)
        yield f"    {_MEND[difference.kind]}"
    if report.audit is not None:
        yield from (f"lint {finding}" for finding in report.audit.findings)
    yield from (str(run) for run in report.runs)
    yield from (f"problem: {problem}" for problem in report.problems)
    yield _summary(report, code)


def _summary(report: _Report, code: int) -> str:
    bodies = 0 if report.audit is None else len(report.audit.bodies)
    parts = [f"{report.manifest} was written" if report.updated else "", f"{bodies} bodies"]
    if report.audit is not None and report.audit.findings:
        parts.append(f"{len(report.audit.findings)} lint findings")
    if report.replayed:
        counts = report.replayed
        parts.append(
            f"{sum(counts.values())} runs in flight replayed: {counts['fits']} fit, "
            f"{counts['diverges']} diverge, {counts['unsure']} can't be told"
        )
    verdict = {_SAME: "nothing changed", _CHANGED: "runs would break", _UNKNOWN: "can't tell"}[code]
    if code == _CHANGED and not (report.replayed.get("diverges") or _changed(report)):
        verdict = "the lint found something (--strict)"
    return f"{verdict}: {', '.join(filter(None, parts))}"


def _changed(report: _Report) -> bool:
    return any(d.kind == "changed" for d in report.differences())


@click.command("journal")
@click.argument("entrypoint", metavar="PACKAGE.MODULE:FLOW")
@click.argument("run_id", type=click.UUID)
@click.option("--database-url", required=True, help="Where the run is; it is only read.")
def journal_command(entrypoint: str, run_id: UUID, database_url: str) -> None:
    """Print a run's journal as JSON, to be kept and replayed in tests."""
    flow = load(entrypoint)
    try:
        click.echo(asyncio.run(_journal(flow, run_id, database_url)), nl=False)
    except (FlowError, ValueError) as error:
        raise CannotTell(str(error)) from error


async def _journal(flow: Flow, run_id: UUID, database_url: str) -> str:
    async with Journals.reading(flow, database_url) as journals:
        return (await journals.read(run_id)).to_json()

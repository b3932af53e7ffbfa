# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How the demo looks: live while it happens, or line by line where nobody watches."""

from collections import Counter
from types import TracebackType
from typing import Protocol, Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.deploy.story import Event, Story

SHOWN_EVENTS = 14


class View(Protocol):
    """Something to show a story with."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, story: Story) -> None:
        """Bring the view up to date."""


class LiveView:
    """A screen that changes in place."""

    def __init__(self, console: Console) -> None:
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.live.__exit__(exc_type, exc, traceback)

    def show(self, story: Story) -> None:
        """Draw it anew."""
        self.live.update(screen(story), refresh=True)


class PlainView:
    """One line for each event."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def show(self, story: Story) -> None:
        """Print what is new."""
        for event in story.events[self.told :]:
            self.console.print(line(story, event), soft_wrap=True)
        self.told = len(story.events)


def view_for(console: Console) -> View:
    """The live view where one can be drawn, else lines.

    On a dumb terminal (TERM=dumb: a CI system's pseudo-terminal, an editor's shell) the cursor
    can't go back, and rich's Live silently draws nothing; nor does anybody watch a pipe."""
    drawable = console.file.isatty() and console.is_interactive and not console.is_dumb_terminal
    return LiveView(console) if drawable else PlainView(console)


def line(story: Story, event: Event) -> Text:
    """An event on one line."""
    return Text.assemble(
        (f"{event.at - story.began:6.2f} s  ", "dim"),
        (f"{event.who:<6}", "bold"),
        (event.what, event.style),
    )


def screen(story: Story) -> RenderableType:
    """Everything at a glance."""
    recent = Group(*(line(story, event) for event in story.events[-SHOWN_EVENTS:]))
    return Group(
        Text(story.title, style="bold"),
        Columns([workers_table(story), steps_table(story)]),
        Panel(recent, title="what happens", title_align="left", border_style="dim"),
    )


def workers_table(story: Story) -> Table:
    """Who is there, who leads, who has the run."""
    table = Table(title="workers", title_justify="left")
    for column in ("name", "process", "state", "leader", "has the run"):
        table.add_column(column)
    for worker in story.state.workers:
        if worker.name == story.killed:
            state = Text("killed (SIGKILL)", style="bold red")
        else:
            living = worker.ended_at is None
            state = Text("living", style="green") if living else Text("ended", style="dim")
        leads = "★" if worker.elected_at and worker.ended_at is None else ""
        has = "●" if story.state.holder == worker.id else ""
        table.add_row(worker.name, str(worker.pid), state, leads, has)
    return table


def steps_table(story: Story) -> Table:
    """What is recorded, what runs, what is to come."""
    table = Table(title="steps of the deploy", title_justify="left")
    for column in ("step", "state", "by"):
        table.add_column(column)
    recorded = {record.name: record.worker for record in story.state.records}
    running = {t.step: story.name_of(t.pid) for t in story.testimonies}
    for step in story.steps:
        if step in recorded:
            table.add_row(step, Text("recorded", style="green"), recorded[step])
        elif step in running:
            table.add_row(step, Text("running", style="yellow"), running[step])
        else:
            table.add_row(step, Text("to come", style="dim"), "")
    return table


def report(story: Story) -> RenderableType:
    """The end of the story: the timeline, and what it proves."""
    timeline = Table(title="timeline", title_justify="left")
    for column in ("second", "who", "what"):
        timeline.add_column(column)
    for event in sorted(story.events, key=lambda event: event.at):
        second = f"{event.at - story.began:.2f}"
        timeline.add_row(second, event.who, Text(event.what, style=event.style))
    return Group(timeline, proof_table(story), facts(story))


def proof_table(story: Story) -> Table:
    """How often each step was executed and recorded, and by whom."""
    table = Table(title="each step", title_justify="left")
    for column in ("step", "executed", "recorded", "by"):
        table.add_column(column)
    recorded = Counter(record.name for record in story.state.records)
    for step in story.steps:
        names = [story.name_of(t.pid) for t in story.testimonies if t.step == step]
        style = "yellow" if len(names) > 1 else ""
        table.add_row(
            step, Text(str(len(names)), style=style), str(recorded[step]), ", ".join(names)
        )
    return table


def facts(story: Story) -> Text:
    """What the demo set out to show."""
    seconds = story.takeover()
    wrong = story.objections()
    if wrong:
        return Text("\n".join(f"NOT KEPT: {objection}" for objection in wrong), style="bold red")
    return Text(
        f"{story.killed} was killed in the middle of a step; another worker went on "
        f"{seconds:.2f} s later. Every step was recorded once, no finished step was repeated. "
        "The step in flight was executed again: it found the application that the killed worker "
        "had started, and started no second one.",
        style="bold green",
    )

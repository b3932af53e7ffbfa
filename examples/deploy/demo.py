# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo: ``make demo``, or ``python -m examples.deploy.demo [--no-live] [--stay]``.

Deploys an application with two workers, kills the one that does it in the middle with SIGKILL, and
shows that the other goes on where it stood; then a state machine waits for a signal. Everything
runs on this machine and is gone at the end, also after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID  # noqa: TC003 - an example reads best plainly

import asyncpg
from rich.console import Console

from examples.deploy import manifest, server
from examples.deploy.crew import NAMES, Crew
from examples.deploy.state import look
from examples.deploy.story import Story
from examples.deploy.view import PlainView, View, report, view_for
from examples.deploy.witness import testimonies
from forktex_core.embedded import EmbeddedPostgres

LOOK = 0.05
GIVE_UP = 60.0
INTERRUPTED = 130


class DemoError(Exception):
    """The demo can't go on."""


class Stage:
    """What the acts of the demo share."""

    def __init__(self, view: View, story: Story, site: Path, pool: asyncpg.Pool) -> None:
        self.view = view
        self.story = story
        self.site = site
        self.pool = pool
        self.run_id: UUID | None = None

    async def see(self) -> None:
        """Bring the story and the view up to date."""
        self.story.starts = sum(len(server.launches(f)) for f in self.site.glob("servers/*"))
        self.story.update(await look(self.pool, self.run_id), testimonies(self.site))
        self.view.show(self.story)

    async def until(self, condition: Callable[[], Awaitable[object]], crew: Crew) -> None:
        """Wait for something to become true, and watch meanwhile.

        Raises DemoError when a worker ends by itself, or after a minute."""
        deadline = time.monotonic() + GIVE_UP
        while not await condition():
            if crew.failures() or time.monotonic() > deadline:
                raise DemoError("\n".join(["waited in vain", *crew.failures()]))
            await self.see()
            await asyncio.sleep(LOOK)


@contextlib.contextmanager
def site_folder() -> Iterator[Path]:
    """Where the deploy puts everything; what still runs there is stopped at the end."""
    site = Path(tempfile.mkdtemp(prefix="forktex-demo-"))
    try:
        yield site
    finally:
        for folder in site.glob("servers/*"):
            server.stop(folder)
        shutil.rmtree(site)


async def perform(view: View, story: Story, *, stay: bool) -> None:
    """The whole demo."""
    order = manifest.load()
    story.title = f"deploying {order.name} {order.version}"
    with site_folder() as site:
        async with EmbeddedPostgres() as postgres:
            story.tell("demo", f"has started PostgreSQL on port {postgres.port}")
            os.environ["DEPLOY_DATABASE_URL"] = postgres.url
            from examples.deploy.pipeline import flow

            async with (
                flow,
                asyncpg.create_pool(postgres.dsn, min_size=1, max_size=1) as pool,
                Crew(postgres.url, site) as crew,
            ):
                stage = Stage(view, story, site, pool)
                await deploy(stage, crew)
                await onboard(stage, crew)
                if stay:
                    story.tell("demo", "stays until Ctrl-C")
                    await stage.until(forever, crew)


async def forever() -> bool:
    """Never true."""
    return False


async def deploy(stage: Stage, crew: Crew) -> None:
    """Act one: a deploy whose worker is killed in the middle."""
    from examples.deploy.pipeline import STEPS, Order, flow

    story = stage.story
    story.steps = STEPS

    async def everybody() -> bool:
        return sum(worker.ended_at is None for worker in story.state.workers) == len(NAMES)

    async def started() -> bool:
        return story.starts > 0

    async def ended() -> bool:
        return (await look(stage.pool, stage.run_id)).ended

    await stage.until(everybody, crew)
    source = manifest.MANIFEST.parent / (load := manifest.load()).source
    order = Order(manifest=load, source=source, site=stage.site)
    stage.run_id = await flow.start("deploy", input=order)
    story.tell("demo", f"starts the deploy, run {stage.run_id}", "bold")
    await stage.until(started, crew)
    kill_the_deployer(stage, crew)
    await stage.until(ended, crew)
    await stage.see()
    deployed = await flow.result(stage.run_id)
    story.tell("demo", f"sees it done: {deployed.url}, process {deployed.pid}", "bold")
    visit(stage, deployed.url)


def kill_the_deployer(stage: Stage, crew: Crew) -> None:
    """SIGKILL to the worker whose step has just started the application and not recorded it yet."""
    story = stage.story
    victim = story.name_of(testimonies(stage.site)[-1].pid)
    story.killed, story.killed_at = victim, time.time()
    crew.kill(victim)
    story.tell("demo", f"kills {victim} with SIGKILL in the middle of the step", "bold red")


def visit(stage: Stage, url: str) -> None:
    """Look at the deployed application as its users would."""
    with urllib.request.urlopen(url, timeout=5) as page:
        title = page.read().decode().partition("<h1>")[2].partition("</h1>")[0]
    current = (stage.site / "current").resolve().name
    stage.story.tell("demo", f"finds “{title}” there; current -> servers/{current}")


async def onboard(stage: Stage, crew: Crew) -> None:
    """Act two: a state machine that waits, and is advanced by a signal."""
    from examples.deploy.pipeline import flow

    story = stage.story
    run_id = await flow.start("user.onboarding", input={"email": "ada@example.org"})
    story.tell("demo", "starts the graph user.onboarding", "bold")

    async def waits() -> bool:
        return (await look(stage.pool, run_id)).status == "waiting"

    async def ended() -> bool:
        return (await look(stage.pool, run_id)).ended

    await stage.until(waits, crew)
    story.tell("graph", "waits in email_pending: one row, no process, no connection")
    await flow.send_signal(run_id, "advance", payload={"code": "abc"})
    story.tell("demo", "sends the signal advance", "bold")
    await stage.until(ended, crew)
    story.tell("graph", f"is verified: {await flow.result(run_id)}", "green")
    await stage.see()


async def main(view: View, story: Story, *, stay: bool) -> bool:
    """Perform until done or interrupted (False); a second Ctrl-C doesn't disturb the tidying up."""
    performance = asyncio.create_task(perform(view, story, stay=stay))
    loop = asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            performance.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        await performance
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return not interrupted


def run(arguments: list[str]) -> int:
    """The command line; the exit code: 0 when every promise was kept, 130 after Ctrl-C, else 1."""
    parser = argparse.ArgumentParser(prog="demo", description="A deploy that survives a kill -9.")
    parser.add_argument("--no-live", action="store_true", help="print line by line")
    parser.add_argument("--stay", action="store_true", help="leave it running until Ctrl-C")
    options = parser.parse_args(arguments)
    console, story = Console(), Story()
    try:
        with PlainView(console) if options.no_live else view_for(console) as view:
            completed = asyncio.run(main(view, story, stay=options.stay))
    except (DemoError, manifest.ManifestError) as error:
        console.print(str(error), style="bold red", markup=False)
        return 1
    if story.killed:
        console.print(report(story))
    if not completed:
        console.print("Interrupted; everything that was started is stopped and removed.")
        return INTERRUPTED
    console.print("Everything that was started is stopped and removed.")
    return 1 if story.objections() else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Which Flow a command is about."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from forktex_core.flow.acting import ActingFlow
from forktex_core.flow.cli.failing import WRONG, Failure
from forktex_core.flow.entrypoint import load
from forktex_core.flow.extending import SYSTEM
from forktex_core.flow.flow import Flow


class Target:
    """The Flow that the options name."""

    def __init__(self, app: str | None, database_url: str | None, schema: str | None) -> None:
        if (app is None) == (database_url is None):
            raise Failure(
                "say which Flow: either --app PACKAGE.MODULE:FLOW or --database-url URL", WRONG
            )
        if app is not None:
            if schema is not None:
                raise Failure("--schema goes with --database-url: an app has its own", WRONG)
            self.flow = load(app)
            return
        try:
            self.flow = Flow(_url(database_url or ""), schema=schema or "forktex_flow")
        except ValueError as error:
            raise Failure(f"--database-url: {error}", WRONG) from error

    @property
    def calls(self) -> ActingFlow:
        """The Flow's calls: whoever has this command line has the database, and is the service."""
        return self.flow.as_(SYSTEM)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ActingFlow]:
        """Give its calls, open: nothing is migrated, and a database without a Flow is an error."""
        await self.flow.open(migrate=False)
        try:
            yield self.calls
        finally:
            await self.flow.close()


def _url(given: str) -> str:
    """A URL holds a password, and everybody sees command lines: ``@FILE`` reads it from a file."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--database-url: {given[1:]} can't be read: {error}", WRONG) from error


def about_a_flow(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a Flow; it gets a Target first."""

    @click.option("--app", metavar="PACKAGE.MODULE:FLOW", help="The Flow of a service.")
    @click.option(
        "--database-url", metavar="URL", help="Or a database; @FILE reads the URL from a file."
    )
    @click.option("--schema", help="The schema in that database; forktex_flow by default.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, app: str | None, database_url: str | None, schema: str | None, **options: Any
    ) -> Any:
        return command(Target(app, database_url, schema), *args, **options)

    return wrapped


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

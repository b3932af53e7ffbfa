# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow migrate``."""

import click

from forktex_core.flow.cli.failing import finish
from forktex_core.flow.entrypoint import load
from forktex_core.flow.flow import Flow


@click.command()
@click.argument("entrypoint", metavar="PACKAGE.MODULE:FLOW")
def migrate(entrypoint: str) -> None:
    """Bring the schema of a Flow to this release's version. Does nothing when it is."""
    finish(_migrate(load(entrypoint)))


async def _migrate(flow: Flow) -> None:
    async with flow:
        click.echo(f"schema {flow.schema} is up to date")

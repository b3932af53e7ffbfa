# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow doctor``."""

import click

from forktex_core.flow.cli.failing import FAILED, finish
from forktex_core.flow.cli.output import print_json, printable, show, table
from forktex_core.flow.cli.target import Target, about_a_flow, as_json
from forktex_core.flow.inspect.doctor import Examination


@click.command()
@as_json
@about_a_flow
def doctor(target: Target, as_json: bool) -> None:
    """Look for what is wrong: the server and its settings, poolers, clocks, bloat, indexes, workers
    and runs that are stuck. Each finding comes with its mend.

    Exits with 1 when there is an error or a warning; notes alone are fine.
    """
    found = finish(_examine(target))
    if as_json:
        print_json(found)
    else:
        rows = ((d.level, d.code, d.sentence, d.mend) for d in found.diagnoses)
        if found.diagnoses:
            show(table("", ("", "what", "finding", "mend"), rows))
        click.echo(printable(f"{found.server}; {len(found.checked)} things looked at"))
        click.echo("well" if found.well else "not well")
    if not found.well:
        click.get_current_context().exit(FAILED)


async def _examine(target: Target) -> Examination:
    async with target.opened() as flow:
        return await flow.examine()

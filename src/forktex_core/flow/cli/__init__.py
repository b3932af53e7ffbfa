# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow``: workers, runs, and all that there is to see of a Flow, from the command line.

Exit codes, of every command but ``audit`` (which says its own):

0   done
1   the work failed, or what was asked about is not well (doctor), or did not succeed (runs watch)
2   the command line is wrong: an option, a filter, a cursor, an id, an entrypoint
3   there is no such run, schedule, workflow or step
4   the run's status does not allow it
5   the database can't be reached, or has no schema of this release
130 interrupted
"""

import click

from forktex_core.flow.cli.lazy import LazyGroup

_HERE = "forktex_core.flow.cli"
COMMANDS = {
    "worker": (f"{_HERE}.worker", "worker", "Serve the workflows of a Flow."),
    "runs": (f"{_HERE}.runs", "runs", "See runs, and act on them."),
    "schedules": (f"{_HERE}.fleet", "schedules", "List the schedules."),
    "queues": (f"{_HERE}.fleet", "queues", "List what queues have to do."),
    "workers": (f"{_HERE}.fleet", "workers", "List the workers."),
    "leader": (f"{_HERE}.fleet", "leader", "Say who does the chores."),
    "definitions": (f"{_HERE}.fleet", "definitions", "List what is served, by version."),
    "graph": (f"{_HERE}.graph", "graph", "Draw graphs."),
    "doctor": (f"{_HERE}.doctor", "doctor", "Look for what is wrong with the database."),
    "migrate": (f"{_HERE}.migrate", "migrate", "Bring the schema up to date."),
    "audit": (f"{_HERE}.audit", "audit_command", "Say which bodies changed, which runs break."),
    "journal": (f"{_HERE}.audit", "journal_command", "Print a run's journal."),
    "demo": (f"{_HERE}.demo", "demo", "Show a Flow at work for a few seconds."),
    "completion": (f"{_HERE}.completion", "completion", "Print a shell's completion script."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
@click.version_option(package_name="forktex-core")
def main() -> None:
    """Durable execution on Postgres.

    Most commands take --app PACKAGE.MODULE:FLOW, or --database-url, to say which Flow they are
    about. Exit codes: 0 done, 1 failed, 2 wrong command line, 3 not there, 4 not allowed in that
    status, 5 no database.
    """

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow runs``: the group; its commands stand in listing.py, looking.py and acting.py."""

import click

from forktex_core.flow.cli.lazy import LazyGroup

_HERE = "forktex_core.flow.cli"
_COMMANDS = {
    "list": (f"{_HERE}.listing", "list_runs", "List runs, with filters, page by page."),
    "show": (f"{_HERE}.looking", "show_run", "Show a run: why it doesn't move, what happened."),
    "watch": (f"{_HERE}.looking", "watch", "Follow a run until it ends, or all of them."),
    "cancel": (f"{_HERE}.acting", "cancel", "Ask runs to stop."),
    "pause": (f"{_HERE}.acting", "pause", "Let runs stand still."),
    "resume": (f"{_HERE}.acting", "resume", "Let paused or halted runs go on."),
    "retry": (f"{_HERE}.acting", "retry", "Let failed runs go on from the failed step."),
    "fork": (f"{_HERE}.acting", "fork", "Start a new run from a step of another one."),
    "signal": (f"{_HERE}.acting", "signal", "Send a signal to a run."),
    "export": (f"{_HERE}.acting", "export", "Write a run's history, to be replayed in tests."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def runs() -> None:
    """See runs, and act on them."""

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow completion``."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    For bash: eval "$(forktex-flow completion bash)" in ~/.bashrc; zsh alike in ~/.zshrc; for fish:
    forktex-flow completion fish | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root()
    name = root.info_name or "forktex-flow"
    variable = f"_{name.replace('-', '_')}_COMPLETE".upper()
    click.echo(kind(root.command, {}, name, variable).source())

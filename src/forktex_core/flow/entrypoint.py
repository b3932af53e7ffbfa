# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Finds the Flow that a command is about."""

import importlib
import sys
from pathlib import Path

import click

from forktex_core.flow.flow import Flow


class CannotTell(click.ClickException):
    """What was asked can't be done with what was given: one line, exit code 2."""

    exit_code = 2


def load(entrypoint: str) -> Flow:
    """Import the Flow that ``package.module:name`` stands for; raise CannotTell saying what is
    wrong.
    """
    module_name, _, attribute = entrypoint.partition(":")
    if not module_name or not attribute:
        raise CannotTell(f"{entrypoint!r} is not of the form package.module:flow")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise CannotTell(
            f"{entrypoint!r}: {error}; run the command where the package can be imported"
        ) from error
    except (Exception, SystemExit) as error:
        raise CannotTell(
            f"{entrypoint!r}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    flow = getattr(module, attribute, None)
    if not isinstance(flow, Flow):
        raise CannotTell(f"{entrypoint!r}: {module_name} has no Flow named {attribute!r}")
    return flow

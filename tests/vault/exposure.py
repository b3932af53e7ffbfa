# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""All that a logger, a traceback with local variables or a crash reporter would show."""

import io
import traceback
from pathlib import Path

from rich.console import Console
from rich.traceback import Traceback

from forktex_core.vault import Vault

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="


def shown(exc: BaseException | None) -> str:
    """Return messages, arguments, attributes and the local variables of our code's frames.

    Those of other frames are the caller's, who has the plaintext.
    """
    seen: list[str] = []
    while exc is not None:
        seen += [repr(exc), str(exc), repr(vars(exc)), repr(exc.args)]
        stack = traceback.TracebackException.from_exception(exc, capture_locals=True).stack
        seen += [repr(f.locals) for f in stack if "forktex_core" in f.filename]
        exc = exc.__cause__ or exc.__context__
    return "\n".join(seen)


def shown_by_rich(exc: BaseException) -> str:
    """Return rich's traceback with local variables, except those of the tests themselves."""
    console = Console(file=io.StringIO(), width=10_000)
    tests = [str(Path(__file__).parent)]
    console.print(
        Traceback.from_exception(
            type(exc),
            exc,
            exc.__traceback__,
            show_locals=True,
            locals_max_length=100,
            locals_max_string=10_000,
            suppress=tests,
        )
    )
    return console.file.getvalue()


def key_material() -> list[str]:
    """Spell the keys and their halves in all the ways that might be printed."""
    ring = Vault.from_keys([KEY, OTHER]).keyring
    secrets = [key._secret for key in ring.keys.values()]
    halves = [half for secret in secrets for half in (secret, secret[:16], secret[16:])]
    return [KEY, OTHER, *(repr(half)[2:-1] for half in halves), *(half.hex() for half in halves)]

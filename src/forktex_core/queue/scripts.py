# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The room of all Lua scripts: every change of state that takes more than one step is one of them.

Each ``lua/NAME.lua`` says what it takes, what it returns and what a crash around it means;
``lua/prelude.lua`` is put
in front of each. A script is called by its hash, and sent as text when the server doesn't know it
(`Wire`).
"""

import functools
import hashlib
from importlib.resources import files
from typing import Literal

type Script = Literal[
    "admit",
    "cancel",
    "enqueue",
    "inspect",
    "join",
    "leave",
    "purge",
    "requeue",
    "settle",
    "take",
    "tick",
    "vet",
]
type Word = str | bytes | int
type Command = tuple[Word, ...]


@functools.cache
def text(name: Script) -> str:
    """A script, prelude included."""
    folder = files("forktex_core.queue") / "lua"
    return f"{(folder / 'prelude.lua').read_text()}\n{(folder / f'{name}.lua').read_text()}"


@functools.cache
def digest(name: Script) -> str:
    """The name by which a server knows a script."""
    return hashlib.sha1(text(name).encode(), usedforsecurity=False).hexdigest()


def call(name: Script, root: str, *args: Word) -> Command:
    """The command that runs a script on the queue whose keys begin with ``root``."""
    return ("EVALSHA", digest(name), 1, root, *args)


def in_full(command: Command) -> Command:
    """The same call for a server that doesn't know the script yet."""
    name = next(name for name in Script.__value__.__args__ if digest(name) == command[1])
    return ("EVAL", text(name), *command[2:])

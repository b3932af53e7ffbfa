# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Whom a server runs as: PostgreSQL refuses root, so for root it runs as ``nobody``."""

import functools
import os
import pwd
from pathlib import Path
from typing import TypedDict

NOBODY = 65534


class Identity(TypedDict, total=False):
    """The options of ``subprocess`` that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@functools.cache
def server_user() -> int | None:
    """The user id for a server that refuses root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return NOBODY


def identity() -> Identity:
    """Run a program as the server's user."""
    user = server_user()
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def give_away(path: Path) -> None:
    """Make the server's user the owner, when it is another than we."""
    user = server_user()
    if user is not None:
        os.chown(path, user, user)


def make_owned(folder: Path) -> None:
    """A private folder of the server's user."""
    folder.mkdir(mode=0o700, exist_ok=True)
    give_away(folder)

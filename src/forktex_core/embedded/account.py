# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Whom a server runs as.

PostgreSQL refuses to run as root. For root it runs as ``nobody``, its data folder belongs to that user,
and where ``nobody`` can't read the wheel's files (a virtual environment below ``/root``) a copy is
made once in the temporary folder. Everything there lies below one directory that must belong to us
and be writable for nobody else: another local user who made it first, to plant files, is refused.
"""

import functools
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from forktex_core.embedded.errors import EmbeddedError

NOBODY = 65534


@functools.cache
def server_user() -> int | None:
    """The user id for a server that refuses root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return NOBODY


def identity() -> dict[str, Any]:
    """``subprocess`` options that drop root for the server's user."""
    user = server_user()
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def can_run(program: Path) -> bool:
    """Whether the server's user can execute a program, its libraries included."""
    try:
        return (
            subprocess.run(
                [program, "--version"], capture_output=True, check=False, **identity()
            ).returncode
            == 0
        )
    except PermissionError:
        return False


def cache_folder() -> Path:
    """The directory for what is made once per user and machine.

    Raises EmbeddedError when it is not ours alone."""
    folder = Path(tempfile.gettempdir()) / f"forktex-embedded-{os.geteuid()}"
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        folder.mkdir(mode=mode)
        folder.chmod(mode)
    except FileExistsError:
        pass
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise EmbeddedError(
            f"{folder} is not a directory that only we can write to: somebody else made it; "
            "remove it or choose another temporary folder"
        )
    return folder


def readable_copy(program: Path, root: Path, trees: list[Path]) -> Path:
    """Copy trees below ``root`` to where the server's user can read them; where ``program`` is then.

    Named after what was copied, and moved into place in one step: concurrent callers share it."""
    origin = program.stat()
    key = f"{program}:{origin.st_size}:{origin.st_mtime_ns}"
    target = cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not target.exists():
        work = Path(tempfile.mkdtemp(dir=cache_folder()))
        for tree in filter(Path.exists, trees):
            shutil.copytree(tree, work / tree.relative_to(root), symlinks=True)
        make_readable(work)
        publish(work, target)
    return target / program.relative_to(root)


def make_readable(tree: Path) -> None:
    """Let everybody read a copy that is ours."""
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for file in files:
            executable = os.stat(os.path.join(folder, file)).st_mode & stat.S_IXUSR
            os.chmod(os.path.join(folder, file), 0o755 if executable else 0o644)


def publish(work: Path, target: Path) -> None:
    """Move a finished folder to its place; whoever comes second drops theirs."""
    try:
        work.rename(target)
    except OSError:
        shutil.rmtree(work)
        if not target.exists():
            raise

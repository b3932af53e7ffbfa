# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A copy of the wheel's programs for a user who can't read the original.

Root's virtual environment often lies where ``nobody`` can't read (below ``/root``). We never loosen
somebody's folders: the programs are copied, once, to the temporary folder. Everything there lies
below one directory that must belong to us and be writable for nobody else, so that another local
user can't have programs of theirs run by making it first.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from forktex_core.embedded.errors import EmbeddedError


def copies_folder() -> Path:
    """The directory of all copies of this user.

    Raises EmbeddedError when it is not ours alone."""
    folder = Path(tempfile.gettempdir()) / f"forktex-embedded-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        refuse_foreign(folder)
    folder.chmod(0o755)
    return folder


def refuse_foreign(folder: Path) -> None:
    """Raise EmbeddedError unless the folder is ours and closed to other writers."""
    found = folder.lstat()
    open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or open_to_others:
        raise EmbeddedError(
            f"{folder} is not a directory that only we can write to, so somebody else may have "
            "put programs there: remove it, or choose another temporary folder (TMPDIR)"
        )


def readable_copy(program: Path, root: Path, trees: list[Path]) -> Path:
    """Copy trees below ``root`` to where everybody can read them; where ``program`` is then.

    Named after the original's place, size and time, and moved into place in one step: later and
    concurrent callers share it."""
    origin = program.stat()
    key = f"{program}:{origin.st_size}:{origin.st_mtime_ns}"
    copies = copies_folder()
    target = copies / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not target.exists():
        work = Path(tempfile.mkdtemp(dir=copies))
        for tree in filter(Path.exists, trees):
            shutil.copytree(tree, work / tree.relative_to(root), symlinks=True)
        make_readable(work)
        publish(work, target)
    return target / program.relative_to(root)


def make_readable(tree: Path) -> None:
    """Let everybody read what is ours, and execute what we may."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)


def publish(work: Path, target: Path) -> None:
    """Move a finished folder to its place; whoever comes second drops theirs."""
    try:
        work.rename(target)
    except OSError:
        shutil.rmtree(work)
        if not target.exists():
            raise

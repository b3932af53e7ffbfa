# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The search for a Python that a newcomer's machine may hide, on made-up machines."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "find-python"


class Machine:
    """A PATH of chosen programs, an empty home, and nothing of the real machine's Pythons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.bin.mkdir()
        self.home.mkdir()
        self.program(self.bin / "id", "echo nobody-of-this-name")

    def program(self, path: Path, body: str) -> Path:
        """An executable shell script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def python(self, path: Path, version: str, *, venv: bool = True) -> Path:
        """A stand-in for an interpreter, which answers the probe as that version would."""
        minor = version.rpartition(".")[0]
        old = int(minor.partition(".")[2]) < 12
        return self.program(
            path,
            f'echo {version}; [ "$3" = "" ] || [ "$3" = {minor} ] || exit 3\n'
            f"exit {3 if old else 0 if venv else 4}",
        )

    def find(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the search with this machine's PATH and home, and the variables given."""
        environment = {"PATH": str(self.bin), "HOME": str(self.home)} | variables
        command = ["/bin/sh", SCRIPT, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without any Python; its folder's name has a space in it."""
    folder = tmp_path / "a machine"
    folder.mkdir()
    return Machine(folder)


def _found(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_the_newest_named_python_of_the_path(machine: Machine) -> None:
    """`python3.13` comes before `python3.12`, and both before `python3`."""
    machine.python(machine.bin / "python3", "3.14.0")
    machine.python(machine.bin / "python3.12", "3.12.3")
    newest = machine.python(machine.bin / "python3.13", "3.13.1")
    assert _found(machine.find()) == newest


def test_an_older_python3_is_passed_over(machine: Machine) -> None:
    """A `python3` that is 3.11 doesn't end the search, and a pyenv version is taken."""
    machine.python(machine.bin / "python3", "3.11.2")
    suits = machine.python(machine.home / ".pyenv/versions/3.12.1/bin/python", "3.12.1")
    assert _found(machine.find()) == suits


def test_a_name_that_does_not_run_is_passed_over(machine: Machine) -> None:
    """pyenv's shim of a version that is not active exists and fails: it is no Python."""
    machine.program(machine.bin / "python3.13", "echo 'pyenv: python3.13: not found' >&2; exit 127")
    suits = machine.python(machine.bin / "python3.12", "3.12.1")
    assert _found(machine.find()) == suits


@pytest.mark.parametrize("known_by", ["PYENV_ROOT", "home", "pyenv root", "shim"])
def test_where_pyenv_may_lie(machine: Machine, known_by: str) -> None:
    """The variable, the home folder, pyenv's own answer and the place of a shim all lead there."""
    root = machine.home / ".pyenv" if known_by == "home" else machine.folder / "some where"
    suits = machine.python(root / "versions/3.12.1/bin/python", "3.12.1")
    variables = {"PATH": str(machine.bin)}
    if known_by == "PYENV_ROOT":
        variables["PYENV_ROOT"] = str(root)
    elif known_by == "pyenv root":
        machine.program(machine.bin / "pyenv", f"echo '{root}'")
    elif known_by == "shim":
        machine.program(root / "shims/python3", "exit 127")
        variables["PATH"] = f"{root / 'shims'}:{machine.bin}"
    assert _found(machine.find(**variables)) == suits


def test_the_newest_release_of_pyenv(machine: Machine) -> None:
    """Numbers compare as numbers; other implementations and unfinished versions don't count."""
    versions = machine.home / ".pyenv/versions"
    for name in ("3.9.18", "3.12.9", "3.12.10"):
        machine.python(versions / name / "bin/python", name)
    for name in ("3.15.0a1", "3.14-dev", "pypy3.12-7.3", "3.13.0t", "miniconda3"):
        machine.python(versions / name / "bin/python", "3.14.0")
    assert _found(machine.find()) == versions / "3.12.10/bin/python"


def test_a_wanted_version(machine: Machine) -> None:
    """Asked for 3.12, a newer one doesn't do."""
    machine.python(machine.bin / "python3.13", "3.13.1")
    suits = machine.python(machine.bin / "python3.12", "3.12.3")
    assert _found(machine.find("3.12")) == suits


def test_a_python_that_cannot_make_environments(machine: Machine) -> None:
    """Without venv it doesn't do; the message names the package that brings it."""
    machine.python(machine.bin / "python3.12", "3.12.3", venv=False)
    done = machine.find()
    assert done.returncode == 1
    assert "apt install python3.12-venv" in done.stderr


def test_nothing_fits(machine: Machine) -> None:
    """One message says what was tried and what to install; nothing is printed as an answer."""
    machine.python(machine.bin / "python3", "3.11.2")
    machine.python(machine.home / ".pyenv/versions/3.10.1/bin/python", "3.10.1")
    done = machine.find("3.99")
    assert done.returncode == 1
    assert done.stdout == ""
    for words in ("No Python 3.99", "python3.12: not on the PATH", "is Python 3.11.2"):
        assert words in done.stderr
    assert "versions/3.10.1/bin/python: is Python 3.10.1" in done.stderr
    assert "pyenv install" in done.stderr


def test_one_clear_message_on_a_bare_machine(machine: Machine) -> None:
    """Where not even `id` is on the PATH the message is the same: no shell's complaint in it."""
    (machine.bin / "id").unlink()
    machine.python(machine.home / ".pyenv/versions/3.10.1/bin/python", "3.10.1")
    done = machine.find()
    assert done.returncode == 1
    assert done.stdout == ""
    assert "versions/3.10.1/bin/python: is Python 3.10.1" in done.stderr
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("No Python 3.12 or newer")
    assert last.endswith("run the command again; nothing else has to be set.")
    assert "not found" not in done.stderr


def test_without_id_the_login_name_leads_home(machine: Machine) -> None:
    """Where `id` is missing and HOME is empty, LOGNAME says whose pyenv to look into."""
    (machine.bin / "id").unlink()
    user = pwd.getpwuid(os.getuid())
    done = machine.find("3.99", HOME="", LOGNAME=user.pw_name)
    assert f"{user.pw_dir}/.pyenv" in done.stderr
    assert f"{machine.home}/.pyenv" not in done.stderr


def test_the_real_machine_without_a_home() -> None:
    """With an empty home and a bare PATH, the pyenv of the user who runs this is still found."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    home = pwd.getpwuid(os.getuid()).pw_dir
    if not list(Path(home, ".pyenv/versions").glob("3.1[2-9].*")):
        pytest.skip("this user has no pyenv with Python 3.12 or newer in the home folder")
    done = subprocess.run(
        ["/bin/sh", SCRIPT], env=bare, capture_output=True, text=True, check=False
    )
    python = _found(done)
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Python 3.1")

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""When `scripts/in` sets an environment up: a stand-in for Python writes down how it is called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Answers the search's probe, "makes" an environment by copying itself, fails as pip when told to.
_PYTHON = """#!/bin/sh
echo "$*" | head -n 1 >>"$CALLS"
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    *"pip install"*) [ ! -e "$CALLS.fail" ] || { echo "no network" >&2; exit 1; } ;;
    "-c import tomllib"*) echo embedded ;;
esac
"""


class Project:
    """A folder with the real scripts, little else, and the stand-in first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.calls = folder / "calls"
        (self.folder / "scripts").mkdir(parents=True)
        (self.folder / "requirements").mkdir()
        for name in ("in", "find-python", "lowest_versions.py"):
            shutil.copy(SCRIPTS / name, self.folder / "scripts" / name)
        (self.folder / "pyproject.toml").write_text("[project]\n[tool.pytest]\n")
        (self.folder / "requirements/dev-constraints.txt").write_text("pip==1\n")
        python = folder / "bin/python3.14"
        python.parent.mkdir()
        python.write_text(_PYTHON)
        python.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `scripts/in`."""
        bin_ = self.calls.parent / "bin"
        environment = os.environ | {"CALLS": str(self.calls), "PATH": f"{bin_}:/usr/bin:/bin"}
        command = [self.folder / "scripts/in", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def setups(self) -> int:
        """How many environments were made so far."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return sum("-m venv" in line for line in lines)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose environments were never made."""
    return Project(tmp_path)


def test_made_once_and_the_command_runs_in_it(project: Project) -> None:
    """The first call makes it, the second doesn't; the command's exit status comes back."""
    first = project.run("dev", "sh", "-c", "command -v python; exit 7")
    assert first.returncode == 7
    assert first.stdout.strip() == str(project.folder / ".venv/bin/python")
    assert "Setting up .venv" in first.stderr
    again = project.run("dev", "true")
    assert again.returncode == 0
    assert again.stderr == ""
    assert project.setups() == 1


@pytest.mark.parametrize(
    ("changed", "times"), [("pyproject.toml", 2), ("requirements/dev-constraints.txt", 2)]
)
def test_renewed_when_what_it_is_made_from_changes(
    project: Project, changed: str, times: int
) -> None:
    """New dependencies or new pins make it anew."""
    project.run("dev", "true")
    path = project.folder / changed
    path.write_text("# new\n" + path.read_text())
    project.run("dev", "true")
    assert project.setups() == times


def test_not_renewed_for_the_settings_of_a_tool(project: Project) -> None:
    """A changed lint rule installs nothing."""
    project.run("dev", "true")
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\n")
    project.run("dev", "true")
    assert project.setups() == 1


def test_renewed_when_the_project_was_moved(project: Project) -> None:
    """The scripts of an environment carry its path: a moved one doesn't work and is made anew."""
    project.run("dev", "true")
    project.folder = project.folder.rename(project.folder.with_name("moved"))
    moved = project.run("dev", "sh", "-c", "command -v python")
    assert moved.stdout.strip() == str(project.folder / ".venv/bin/python")
    assert project.setups() == 2


def test_a_failed_setup_is_tried_again(project: Project) -> None:
    """A broken download runs no command and leaves nothing that passes for an environment."""
    fail = project.calls.with_name("calls.fail")
    fail.touch()
    failed = project.run("dev", "echo", "ran")
    assert failed.returncode != 0
    assert "no network" in failed.stderr
    assert "ran" not in failed.stdout
    fail.unlink()
    assert project.run("dev", "echo", "ran").stdout == "ran\n"


def test_extras_and_the_development_group_are_installed(project: Project) -> None:
    """Plain pip gets the pins, the editable library with its extras, and the group."""
    project.run("dev", "true")
    calls = project.calls.read_text()
    pins = "--constraint requirements/dev-constraints.txt"
    assert f"-m pip install --quiet {pins} --editable .[embedded] --group dev" in calls


def test_an_unknown_environment(project: Project) -> None:
    """A wrong name says which there are, and makes nothing."""
    done = project.run("nonsense", "true")
    assert done.returncode == 2
    assert "no environment named nonsense (dev, 3.MINOR, lowest, release, fsd)" in done.stderr
    assert project.setups() == 0

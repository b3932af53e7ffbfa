# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The audit of dependencies, against stand-ins for the auditor's program."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"
_HOLE = {"id": "CVE-1", "fix_versions": ["2.11"]}
_CANARY = {"name": "jinja2", "version": "2.10", "vulns": [_HOLE]}
_SOUND = {"name": "a", "version": "1", "vulns": []}
_UNKNOWN = {"name": "b", "skip_reason": "not found: b (1)"}


def _audit(
    folder: Path, canary: list[dict[str, Any]] | None, ours: list[dict[str, Any]], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the audit beside a `pip-audit` that answers so; None is a service out of reach."""
    for name, answer in (("canary", canary), ("ours", ours)):
        text = "" if answer is None else json.dumps({"dependencies": answer})
        (folder / name).write_text(text)
    program = folder / "pip-audit"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *environment*) name=ours ;; *) name=canary ;; esac\n'
        f"cat {folder}/$name\n"
        "echo 'ConnectionError: nobody there' >&2; exit 1\n"
    )
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, SCRIPT, "environment", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_all_is_well(tmp_path: Path) -> None:
    """A service that finds the known hole and none of ours: a pass, with the number of packages."""
    done = _audit(tmp_path, [_CANARY], [_SOUND, _SOUND])
    assert done.returncode == 0
    assert "2 packages looked up, 0 known" in done.stdout


def test_a_hole_fails(tmp_path: Path) -> None:
    """A known vulnerability fails the audit and is named with the release that mends it."""
    done = _audit(tmp_path, [_CANARY], [_SOUND, {"name": "c", "version": "3", "vulns": [_HOLE]}])
    assert done.returncode == 1
    assert "c 3: CVE-1 (mended in 2.11)" in done.stdout


@pytest.mark.parametrize(
    "canary",
    [None, [], [_CANARY | {"vulns": []}], [_UNKNOWN]],
    ids=["out of reach", "empty", "finds nothing", "knows nothing"],
)
def test_a_service_that_cannot_answer_is_no_pass(
    tmp_path: Path, canary: list[dict[str, Any]] | None
) -> None:
    """Out of reach, or a mirror that finds no hole anywhere: NOT RUN, and a failure on request."""
    relaxed = _audit(tmp_path, canary, [_SOUND])
    assert relaxed.returncode == 0
    assert "NOT RUN" in relaxed.stdout
    assert "looked up" not in relaxed.stdout
    assert _audit(tmp_path, canary, [_SOUND], "--must-run").returncode == 1


def test_what_was_skipped_is_named(tmp_path: Path) -> None:
    """A package that the service doesn't know is not counted as audited."""
    done = _audit(tmp_path, [_CANARY], [_SOUND, _UNKNOWN])
    assert "1 packages looked up" in done.stdout
    assert "not audited: not found: b (1)" in done.stdout

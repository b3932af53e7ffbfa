# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo as a whole, in processes of its own: what it shows, and that it leaves nothing."""

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import eventually

COMMAND = [sys.executable, "-m", "examples.deploy.demo"]
ROOT = Path(__file__).parents[2]


def left_over(folder: Path) -> list[str]:
    """Living processes with this temporary folder in their environment, command line or place."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            told = command + (process / "environ").read_bytes() if command else b""
            if command and int(process.name) != os.getpid():
                told += str((process / "cwd").readlink()).encode()
            if str(folder).encode() in told:
                found.append(f"{process.name}: {command!r}")
    return found


def start_demo(folder: Path, *arguments: str, **streams: int) -> "subprocess.Popen[str]":
    """The demo with all its folders below ``folder``."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"},
        text=True,
        **(streams or {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}),
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A temporary folder that the servers' unprivileged account can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="forktex-demo-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def left_in(folder: Path) -> list[Path]:
    """What a demo left behind. Copies of programs, made where a wheel can't be read, stay."""
    return [path for path in folder.iterdir() if not path.name.startswith("forktex-embedded-")]


def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    """A worker killed in the middle: another takes over within two seconds, each step is recorded
    once, one application is started; the graph waits and is advanced; nothing is left."""
    with start_demo(tmp_path, "--no-live") as demo:
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, said
    assert re.search(r"kills (Ada|Bob) with SIGKILL", said)
    found = re.search(r"went on (\d+\.\d+) s\s+later", said)
    assert found is not None
    assert float(found.group(1)) < 2.5
    assert re.search(r"│ start +│ 2 +│ 1 +│", said)
    for step in ("pack", "check_hash", "provision", "unpack", "check_health", "switch"):
        assert re.search(rf"│ {step} +│ 1 +│ 1 +│", said), step
    assert "waits in email_pending" in said
    assert "is verified: {'email'" in said
    assert left_in(tmp_path) == []
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("moment", ["forktex-demo-*", "forktex-postgresql-*", "*/*.log"])
@pytest.mark.parametrize("again", [False, True])
async def test_ctrl_c_leaves_nothing(moment: str, again: bool, tmp_path: Path) -> None:
    """Ctrl-C at any moment, also a second one while it tidies up: no process, no folder."""
    with start_demo(tmp_path, "--no-live") as demo:
        await eventually(lambda: list(tmp_path.glob(moment)))
        demo.send_signal(signal.SIGINT)
        if again:
            demo.send_signal(signal.SIGINT)
        said, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, said
    assert "Interrupted; everything that was started is stopped and removed." in said
    assert left_in(tmp_path) == []
    assert left_over(tmp_path) == []


async def test_ctrl_c_after_the_kill_stops_the_application(tmp_path: Path) -> None:
    """Ctrl-C when the application runs and one worker is dead: the application ends, too."""
    with start_demo(tmp_path, "--no-live") as demo:
        await eventually(lambda: list(tmp_path.glob("*/servers/*/launches")), timeout=30)
        demo.send_signal(signal.SIGINT)
        said, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, said
    assert left_in(tmp_path) == []
    assert left_over(tmp_path) == []


async def test_the_live_view_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal the tables of workers and steps are drawn while it happens."""
    ours, theirs = pty.openpty()
    drawn = b""
    with start_demo(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)
        with suppress(OSError):
            while received := os.read(ours, 65536):
                drawn += received
    os.close(ours)
    text = drawn.decode(errors="replace")
    assert demo.returncode == 0, text[-3000:]
    for word in ("steps of the deploy", "killed (SIGKILL)", "★", "timeline"):
        assert word in text
    assert left_in(tmp_path) == []

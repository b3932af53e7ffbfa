# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo as a whole, in processes of its own: what it shows, and that it leaves nothing."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from examples.deploy.view import LiveView, PlainView, view_for
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


def start_demo(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, **streams: int
) -> "subprocess.Popen[str]":
    """The demo with all its folders below ``folder``."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**(environment or {**os.environ, "COLUMNS": "100"}), "TMPDIR": str(folder)},
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


def pseudo_terminal() -> tuple[int, int]:
    """Its two ends, with the size that a person's window might have."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    return ours, theirs


def terminal(kind: str) -> dict[str, str]:
    """This environment, with a terminal of this kind and nothing else that says how to draw."""
    told = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    return {name: value for name, value in os.environ.items() if name not in told} | {"TERM": kind}


def drawn_on(ours: int) -> str:
    """Everything that is drawn until the other end is closed."""
    drawn = b""
    with suppress(OSError):
        while received := os.read(ours, 65536):
            drawn += received
    os.close(ours)
    return drawn.decode(errors="replace")


def test_the_live_view_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal the tables of workers and steps are drawn while it happens."""
    ours, theirs = pseudo_terminal()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with start_demo(tmp_path, environment=terminal("xterm-256color"), **streams) as demo:
        os.close(theirs)
        text = drawn_on(ours)
    assert demo.returncode == 0, text[-3000:]
    for word in ("steps of the deploy", "killed (SIGKILL)", "★", "timeline"):
        assert word in text
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("term", "expected"), [("xterm", LiveView), ("dumb", PlainView), ("unknown", PlainView)]
)
def test_no_live_view_where_none_can_be_drawn(term: str, expected: type) -> None:
    """A dumb terminal gets lines: a live view would show nothing there."""
    ours, theirs = pseudo_terminal()
    with os.fdopen(theirs, "w") as screen:
        assert type(view_for(Console(file=screen, _environ={"TERM": term}))) is expected
    os.close(ours)


def test_no_live_view_into_a_pipe() -> None:
    """FORCE_COLOR, as CI systems set it, makes no terminal of a pipe."""
    console = Console(file=io.StringIO(), _environ={"TERM": "xterm", "FORCE_COLOR": "1"})
    assert isinstance(view_for(console), PlainView)

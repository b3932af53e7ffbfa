# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo's servers: every operation may be repeated after a crash."""

import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.deploy.archive import pack, unpack
from examples.deploy.manifest import MANIFEST
from examples.deploy.server import (
    Server,
    ServerError,
    ask,
    launches,
    provision,
    runs,
    start,
    stop,
    switch,
    wait_until_up,
)
from tests.waiting import eventually

KILLED_STARTER = """
from pathlib import Path
from examples.deploy.server import Server, start
start(Server.model_validate_json({server!r}), Path({release!r}), "main.py", {environment!r}, 20)
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The application, unpacked."""
    return unpack(pack(MANIFEST.parent / "app", tmp_path), tmp_path / "release")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A provisioned server, stopped afterwards."""
    yield provision(tmp_path / "server", "me")
    stop(tmp_path / "server")


def test_provisioning_twice_gives_one_server(server: Server) -> None:
    """A second attempt gets the first one's port."""
    assert provision(server.folder, "me") == server
    assert provision(server.folder, "other").instance == "me"


def test_start_twice_starts_once(server: Server, release: Path) -> None:
    """A second attempt finds the running application instead of starting one more."""
    pid = start(server, release, "main.py", {}, 20)
    assert start(server, release, "main.py", {}, 20) == pid
    assert launches(server.folder) == [pid]
    assert ask(f"{server.url}/healthz") == {"status": "ok", "instance": "me", "pid": pid}


async def test_killed_while_it_warms_up(server: Server, release: Path) -> None:
    """SIGKILL to whoever starts it, between the start and the first answer: the next attempt waits
    for that very process."""
    environment = {"WARM_UP_SECONDS": "0.5"}
    code = KILLED_STARTER.format(
        server=server.model_dump_json(), release=str(release), environment=environment
    )
    with subprocess.Popen([sys.executable, "-c", code]) as starter:
        await eventually(lambda: launches(server.folder))
        starter.send_signal(signal.SIGKILL)
    assert ask(f"{server.url}/healthz") is None
    pid = start(server, release, "main.py", environment, 20)
    assert launches(server.folder) == [pid]


async def test_a_dead_application_is_started_anew(server: Server, release: Path) -> None:
    """The lock goes with the process, so a crash of the application itself lets it start again."""
    first = start(server, release, "main.py", {}, 20)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: not runs(server))
    assert start(server, release, "main.py", {}, 20) != first


def test_an_application_that_fails_is_explained(server: Server, tmp_path: Path) -> None:
    """An application that ends is reported with what it wrote."""
    (tmp_path / "broken.py").write_text("raise SystemExit('no disk')")
    with pytest.raises(ServerError, match=r"the application ended:\nno disk"):
        start(server, tmp_path, "broken.py", {}, 20)


def test_an_application_that_hangs_is_given_up(server: Server, release: Path) -> None:
    """An application that never answers is reported after the given time."""
    with pytest.raises(ServerError, match=r"was not well within 0\.3 s"):
        start(server, release, "main.py", {"WARM_UP_SECONDS": "60"}, 0.3)


def test_another_on_the_port_is_not_taken_for_ours(
    server: Server, release: Path, tmp_path: Path
) -> None:
    """Health counts only from the application that we started."""
    start(server, release, "main.py", {}, 20)
    stranger = Server(folder=tmp_path, port=server.port, instance="stranger")
    with pytest.raises(ServerError, match="was not well"):
        wait_until_up(stranger, "/healthz", 0.2)


def test_stop_ends_it_and_may_be_repeated(server: Server, release: Path) -> None:
    """Stopping ends the process, does nothing the second time, and nothing where nothing was."""
    start(server, release, "main.py", {}, 20)
    stop(server.folder)
    assert not runs(server)
    stop(server.folder)
    stop(server.folder / "nowhere")


def test_switch_replaces_the_link(server: Server, tmp_path: Path) -> None:
    """``current`` leads to the last server, also when a crash left a half-made link."""
    current = tmp_path / "current"
    switch(current, Server(folder=tmp_path / "old", port=1, instance="old"))
    current.with_name(f"current.{os.getpid()}").symlink_to("nowhere")
    switch(current, server)
    switch(current, server)
    assert current.resolve() == server.folder.resolve()
    assert sorted(p.name for p in tmp_path.iterdir() if "current" in p.name) == ["current"]


def test_the_application_keeps_notices(server: Server, release: Path) -> None:
    """It is a real one: a notice posted is shown, escaped; a wrong address is 404."""
    start(server, release, "main.py", {"TITLE": "A & B"}, 20)
    form = urllib.parse.urlencode({"text": "<b>hello</b>"}).encode()
    with urllib.request.urlopen(f"{server.url}/notices", form) as page:
        text = page.read().decode()
    assert "<h1>A &amp; B</h1>" in text
    assert "<li>&lt;b&gt;hello&lt;/b&gt;</li>" in text
    with urllib.request.urlopen(f"{server.url}/static/style.css") as sheet:
        assert sheet.headers["Content-Type"].startswith("text/css")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server.url}/static/../main.py")

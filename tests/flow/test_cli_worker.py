# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""``forktex-flow worker`` and ``demo``: real processes, started, killed and told to stop."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.cli.supervisor import snapshot
from tests.waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("forktex-flow"))
SERVICE = """
import os
from forktex_core.flow import Flow

flow = Flow({url!r}, schema={schema!r})


@flow.workflow(name="who")
async def who(ctx) -> str:
    return {answer!r}
"""
SAMPLE = 30

type Start = Callable[..., "asyncio.Future[Process]"]


@pytest.fixture
def service(tmp_path: Path, postgres, schema) -> Callable[[str], None]:
    """Write the service's module with what its workflow answers."""

    def write(answer: str) -> None:
        text = SERVICE.format(url=postgres.url, schema=schema, answer=answer)
        (tmp_path / "crew.py").write_text(text)

    write("first")
    return write


@pytest.fixture
async def start(tmp_path: Path, service) -> AsyncIterator[Start]:
    """Start ``forktex-flow worker``; what still runs is killed, with its children."""
    running: list[Process] = []

    async def begin(*words: object, entrypoint: str = "crew:flow") -> Process:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "worker", entrypoint, *map(str, words), cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        process._transport.close()  # orphans may hold the other end of its stderr


@pytest.fixture
async def client(flow: Flow) -> Flow:
    """A Flow without workflows, open."""
    await flow.open()
    return flow


async def living(client: Flow) -> list[int]:
    """The process ids of the workers that live."""
    return sorted(worker.pid for worker in await client.fleet.workers())


async def ended(process: Process) -> tuple[int, str]:
    """The exit code of a process, and what it said; a traceback is no part of it."""
    assert process.stderr is not None
    said = (await asyncio.wait_for(process.stderr.read(), SAMPLE)).decode()
    code = await asyncio.wait_for(process.wait(), SAMPLE)
    assert "Traceback" not in said
    return code, said


async def test_one_process_serves_and_drains(client: Flow, start) -> None:
    """With the settings that it was given, until SIGTERM: then its life has ended in good order."""
    process = await start("--queue", "a", "--queue", "b", "--concurrency", 7, "--name", "w")
    (worker,) = await eventually(client.fleet.workers, SAMPLE)
    assert (worker.name, worker.queues, worker.slots, worker.pid) == (
        "w",
        ["a", "b"],
        7,
        process.pid,
    )
    assert await client.run("who", queue="b", timeout=20) == "first"
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0
    (worker,) = await client.fleet.workers(ended_within=60)
    assert worker.end_reason == "stopped"


async def test_several_processes_share_the_work_and_a_dead_one_is_replaced(
    client: Flow, start
) -> None:
    """Each is a worker with a name and a process of its own; a killed one is started again; one
    SIGTERM to the supervisor drains them all.
    """
    supervisor = await start("--processes", 2, "--name", "crew")
    pids = await eventually(lambda: all_of(client, 2), SAMPLE)
    assert supervisor.pid not in pids
    names = {worker.name for worker in await client.fleet.workers()}
    assert names == {"crew-1", "crew-2"}
    os.kill(pids[0], signal.SIGKILL)
    again = await eventually(lambda: others(client, pids[0]), SAMPLE)
    assert pids[1] in again
    supervisor.send_signal(signal.SIGTERM)
    code, said = await ended(supervisor)
    assert code == 0
    assert "ended with -9: starting it again in 0.5 s" in said
    assert await living(client) == []
    reasons = [w.end_reason for w in await client.fleet.workers(ended_within=60)]
    assert sorted(reasons) == ["gone", "stopped", "stopped"]


async def all_of(client: Flow, number: int) -> list[int]:
    """So many living workers, or none yet."""
    found = await living(client)
    return found if len(found) == number else []


async def others(client: Flow, dead: int) -> list[int]:
    """Two living workers without one that is dead, or none yet."""
    found = await living(client)
    return found if len(found) == 2 and dead not in found else []


async def test_children_drain_when_their_supervisor_is_killed(client: Flow, start) -> None:
    """They find themselves orphans, and end in good order."""
    supervisor = await start("--processes", 2)
    await eventually(lambda: all_of(client, 2), SAMPLE)
    supervisor.kill()
    await eventually(lambda: none_lives(client), SAMPLE)
    reasons = {w.end_reason for w in await client.fleet.workers(ended_within=60)}
    assert reasons == {"stopped"}


async def none_lives(client: Flow) -> bool:
    """Whether no worker lives."""
    return not await living(client)


async def test_reload_serves_the_new_code(client: Flow, start, service, tmp_path: Path) -> None:
    """A changed file starts the worker anew; one that can't be imported is waited out."""
    supervisor = await start("--reload")
    first = await eventually(lambda: all_of(client, 1), SAMPLE)
    assert await client.run("who", timeout=20) == "first"
    (tmp_path / "crew.py").write_text("this is no Python")
    await eventually(lambda: none_lives(client), SAMPLE)
    service("second")
    second = await eventually(lambda: all_of(client, 1), SAMPLE)
    assert second != first
    assert await client.run("who", timeout=20) == "second"
    assert supervisor.returncode is None
    supervisor.send_signal(signal.SIGINT)
    assert (await ended(supervisor))[0] == 0


def test_what_reload_looks_at(tmp_path: Path) -> None:
    """Source files at any depth, by time and size; hidden folders are left out."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    for name in ("a/b/x.py", ".venv/y.py", "z.txt"):
        (tmp_path / name).write_text("1")
    before = snapshot([tmp_path])
    assert list(before) == [tmp_path / "a/b/x.py"]
    (tmp_path / "a/b/x.py").write_text("11")
    assert snapshot([tmp_path]) != before
    (tmp_path / "a/b/x.py").unlink()
    assert snapshot([tmp_path]) == {}


@pytest.mark.parametrize(
    ("words", "entrypoint", "code", "message"),
    [
        ([], "nope:flow", 2, "No module named 'nope'"),
        ([], "crew", 2, "is not of the form package.module:flow"),
        ([], "crew:nope", 2, "has no Flow named 'nope'"),
        (["--processes", 2], "nope:flow", 2, "No module named 'nope'"),
        (["--processes", 0], "crew:flow", 2, "--processes"),
        (["--concurrency", 0], "crew:flow", 2, "--concurrency"),
        (["--queue", ""], "crew:flow", 2, "a queue has a name"),
        (["--drain", -1], "crew:flow", 2, "--drain"),
        (["--reload-dir", "nowhere"], "crew:flow", 2, "--reload-dir"),
        (["--log-level", "LOUD"], "crew:flow", 2, "--log-level"),
    ],
)  # fmt: skip
async def test_workers_that_cannot_begin(start, words, entrypoint, code, message) -> None:
    """The reason in a line, the code of a wrong command line, no process left."""
    found, said = await ended(await start(*words, entrypoint=entrypoint))
    assert (found, message in said) == (code, True), said


async def test_logs_are_json_when_asked_for(client: Flow, start, tmp_path: Path) -> None:
    """Every line is one object; those of a body and of its steps name run and worker."""
    module = tmp_path / "crew.py"
    module.write_text(
        module.read_text().replace("    return 'first'", "    logging.warning('hello')\n")
        .replace("import os", "import logging")
    )  # fmt: skip
    process = await start("--log-format", "json")
    (worker,) = await eventually(client.fleet.workers, SAMPLE)
    run_id = await client.start("who")
    await client.result(run_id, timeout=20)
    process.send_signal(signal.SIGTERM)
    code, said = await ended(process)
    lines = [json.loads(line) for line in said.splitlines()]
    hello = next(line for line in lines if line["message"] == "hello")
    assert (code, hello["run_id"], hello["worker_id"]) == (0, str(run_id), worker.id)


async def test_a_worker_without_its_database(start, tmp_path: Path) -> None:
    """Exit code 5."""
    (tmp_path / "lost.py").write_text(
        SERVICE.format(url="postgresql://a@127.0.0.1:1/x", schema="s", answer="")
    )
    code, said = await ended(await start(entrypoint="lost:flow"))
    assert (code, "no connection to Postgres at 127.0.0.1:1/x" in said) == (5, True)


async def test_the_demo_shows_runs_and_leaves_nothing(postgres, sql, tmp_path: Path) -> None:
    """On a database that is given: orders come and go, and the schema is dropped."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "demo", "--seconds", "3", "--database-url", postgres.url, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), SAMPLE)
    said = out.decode()
    assert (process.returncode, "Traceback" in err.decode()) == (0, False), err
    assert "order@1" in said
    assert "created order" in said
    left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'forktex_flow_demo_%'"
    assert await sql.fetchval(left) == 0
    lost = subprocess.run(
        [PROGRAM, "demo", "--database-url", "postgresql://a@127.0.0.1:1/x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (lost.returncode, "Traceback" in lost.stderr) == (5, False)

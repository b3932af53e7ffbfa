# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The command, the types, the default queue, and the pure parts."""

import asyncio
import io
import json
import re
import subprocess
import sys
from datetime import datetime

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import forktex_core.queue as module
from forktex_core.queue import Backoff, metrics
from forktex_core.queue.cli import main, table_of
from forktex_core.queue.message import Message
from forktex_core.queue.testing import drain

TYPED = """
from forktex_core.queue import Queue
queue = Queue()
@queue.job
async def send(user_id: int) -> str: return ""
@queue.job(retries=1)
def plain(user_id: int) -> str: return ""
async def good() -> None:
    text: str = await (await send.enqueue(user_id=1)).result()
    other: str = await (await plain.options(delay=1).enqueue(1)).result()
    direct: str = await send(1)
async def bad() -> None:
    await send.enqueue(user_id="1")
    await plain.enqueue(user=1)
    number: int = await (await send.enqueue(1)).result()
    plain.options(dealy=1)
"""


def test_types(tmp_path):
    """mypy accepts the right calls and refuses each of the four wrong ones."""
    (tmp_path / "typed.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "typed.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = sorted(
        {int(line.split(":")[1]) for line in done.stdout.splitlines() if "error" in line}
    )
    assert lines == [13, 14, 15, 16], done.stdout


def test_public_surface():
    """What is public is listed, and there."""
    assert sorted(module.__all__) == list(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_import_is_light():
    """Importing the module loads no client, no driver and no validator."""
    code = (
        "import forktex_core.queue, sys; "
        "print([m for m in ('redis','pydantic','sqlalchemy','click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command(redis_url):
    """The command shows failures as JSON, requeues, asks before it purges, and names what is
    wrong."""

    async def fill() -> None:
        async with module.Queue(redis_url) as queue:

            @queue.job(retries=0)
            async def fail() -> None:
                raise ValueError("broken")

            await fail.enqueue()
            await module.Worker({queue: 1}, burst=True, signals=False).run()

    asyncio.run(fill())

    def run(*words: str, **more: str):
        return CliRunner().invoke(main, ["--redis", redis_url, *words], **more)

    (letter,) = json.loads(run("--json", "failures").stdout)
    assert letter["name"] == "fail"
    assert json.loads(run("--json", "requeue", letter["letter"]).stdout) == {"requeued": 1}
    assert json.loads(run("--json", "stats").stdout)["lanes"]["normal"]["waiting"] == 1
    assert run("purge", "ready", input="n\n").exit_code == 1
    assert json.loads(run("--json", "stats").stdout)["lanes"]["normal"]["waiting"] == 1
    assert "purged: 1" in run("purge", "ready", input="y\n").stdout
    assert "forktex_queue_jobs" in run("metrics").stdout
    assert run("requeue").exit_code == 2
    assert "fail" in run("stats").stdout
    assert run("pause").exit_code == run("resume").exit_code == run("workers").exit_code == 0


def test_command_and_bad_input(redis_url, tmp_path, monkeypatch):
    """Each wrong use ends with a line that names it, never with a traceback."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "holds_no_queue.py").write_text("queue = 3")
    (tmp_path / "misses_another.py").write_text("import not_there_at_all")

    def told(*words: str, url: str = redis_url) -> str:
        done = CliRunner().invoke(main, ["--redis", url, *words])
        assert done.exit_code in (1, 2), done.output
        assert isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        return done.output

    assert "no queue" in told("work", "holds_no_queue:queue")
    assert "no queue" in told("work", "holds_no_queue")
    assert "no queue" in told("work", ":")
    assert "nowhere" in told("work", "nowhere.jobs:queue")
    assert "0" in told("work", "holds_no_queue:queue", "--concurrency", "0")
    assert "no dead letter's id" in told("requeue", "nonsense")
    assert "no job's id" in told("cancel", "nonsense")
    assert "not one of" in told("purge", "everything")
    assert "range" in told("failures", "--limit", "0")
    assert "No such command" in told("nonsense")
    assert "braces" in told("--queue", "{}", "stats")
    assert "no Redis URL" in told("stats", url="http://localhost")
    assert "not available" in told("stats", url="redis://127.0.0.1:1")
    broken = CliRunner().invoke(main, ["work", "misses_another:queue"])
    assert isinstance(broken.exception, ModuleNotFoundError)  # the user's own, with its place


def test_failures_are_plain_text():
    """What looks like markup in a failure is shown as it is."""
    output = io.StringIO()
    Console(file=output, width=80).print(table_of("failure", [("no [/such] tag [red]",)]))
    assert "no [/such] tag [red]" in output.getvalue()


async def test_metrics(queue):
    """The numbers are in Prometheus' text format: each family has its type, each sample its
    labels, and names can't break out of theirs."""

    @queue.job(name='a "b" \\c', retries=0)
    async def odd() -> None: ...

    await odd.enqueue()
    await drain(queue)
    await queue.pause()
    lines = metrics(await queue.stats()).splitlines()
    sample = re.compile(r'forktex_queue_\w+\{(\w+="([^"\\]|\\.)*",?)+\} [\d.]+')
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    for line in lines:
        if not line.startswith("#"):
            assert sample.fullmatch(line), line
            assert line.partition("{")[0] in typed
    assert 'forktex_queue_paused{queue="test"} 1' in lines
    name = r'job="a \"b\" \\c"'
    assert f'forktex_queue_events_total{{queue="test",{name},event="succeeded"}} 1' in lines


async def test_overview(queue):
    """A page about a queue gets everything as plain JSON values, from one call."""

    @queue.job(retries=0, cron="0 8 * * *", timezone="Europe/Berlin")
    async def fail() -> None:
        raise ValueError("broken")

    await fail.enqueue()
    await drain(queue)
    await fail.options(delay=100).enqueue()
    seen = await queue.overview(failures=1)
    assert json.loads(json.dumps(seen)) == seen
    assert (seen["queue"], seen["waiting"], seen["delayed"], seen["dead"]) == ("test", 0, 1, 1)
    assert seen["counters"]["fail"] == {"enqueued": 2, "failed": 1}
    (letter,) = seen["failures"]
    assert (letter["name"], letter["attempts"]) == ("fail", 1)
    (schedule,) = seen["schedules"]
    assert (schedule["job"], schedule["cron"]) == ("fail", "0 8 * * *")
    assert datetime.fromisoformat(schedule["next"]) > datetime.fromisoformat(seen["time"])


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n")), st.binary())
def test_message_round_trip(name, arguments):
    """Every message is what was encoded."""
    message = Message("id", name, arguments, {"a": 1, "k": "x\ny"})
    assert Message.decode(message.encode()) == message


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff(retry, chance):
    """A delay is between half and all of the exponential, and never above the most."""
    delay = Backoff(first=1, most=60).delay(retry, lambda: chance)
    assert min(2 ** min(retry - 1, 10), 60) / 2 <= delay <= 60


async def test_default_queue(redis_url):
    """The module's own queue: init, job, enqueue, process, close."""
    ran = []

    @module.job
    async def greet(name: str) -> None:
        ran.append(name)

    module.init(redis_url)
    try:
        await module.enqueue("greet", name="you")
        await module.process(burst=True, signals=False)
    finally:
        del module.default_queue.jobs["greet"]
        await module.close()
    assert ran == ["you"]
    with pytest.raises(AttributeError):
        _ = module.nothing

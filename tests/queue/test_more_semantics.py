# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Weights, limits by key and together, cron over a change of the clocks, tracing, the test kit."""

import json
import sys

import pytest
from click.testing import CliRunner

from forktex_core.queue import Concurrency, Queue, Worker
from forktex_core.queue.cli import main
from forktex_core.queue.testing import drain, embedded
from tests.waiting import eventually


async def test_queues_by_weight(redis_url):
    """While both queues have work, a queue of weight 3 runs three jobs for one of weight 1."""
    order = []
    async with Queue(redis_url, "heavy") as heavy, Queue(redis_url, "light") as light:
        for queue in (heavy, light):

            @queue.job
            async def note(name: str) -> None:
                order.append(name)

            await queue.enqueue_many([note.call(queue.name) for _ in range(400)])
        await Worker({heavy: 3, light: 1}, concurrency=8, burst=True, signals=False).run()
    assert len(order) == 800
    part = order[:300].count("heavy") / 300
    assert 0.6 < part < 0.9, part


async def test_embedded():
    """``embedded()`` gives a server on which jobs run."""
    ran = []
    async with embedded() as url, Queue(url) as queue:

        @queue.job
        async def note() -> None:
            ran.append(1)

        await note.enqueue()
        await drain(queue)
    assert ran == [1]


def test_command_works_and_cancels(redis_url, tmp_path):
    """``work`` runs the queue that it is shown, ``cancel`` cancels a job by its id."""
    module = tmp_path / "queue_app_of_test.py"
    module.write_text(
        "import asyncio\n"
        "from forktex_core.queue import Queue\n"
        f"queue = Queue({redis_url!r})\n"
        "@queue.job\n"
        "async def note() -> None: ...\n"
        "async def fill() -> str:\n"
        "    async with queue:\n"
        "        await note.enqueue()\n"
        "        return (await note.options(delay=100).enqueue()).id\n"
        "late = asyncio.run(fill())\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        runner = CliRunner()
        done = runner.invoke(
            main, ["--redis", redis_url, "work", f"{module.stem}:queue", "--burst"]
        )
        assert done.exit_code == 0, done.output
        late = sys.modules[module.stem].late
        done = runner.invoke(main, ["--redis", redis_url, "cancel", late])
        assert done.output == "cancelled: 1\n"
        stats = json.loads(runner.invoke(main, ["--redis", redis_url, "--json", "stats"]).stdout)
        assert stats["delayed"] == 0
        assert stats["counters"]["note"] == {"enqueued": 2, "succeeded": 1, "cancelled": 1}
        missing = runner.invoke(main, ["--redis", redis_url, "work", f"{module.stem}:nothing"])
        assert missing.exit_code != 0
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("size", [1, 7])
async def test_bounded_memory(queue, size):
    """When jobs have ended, only these keys are left: streams (empty), groups, counters."""

    @queue.job(unique="done", keep=0.05, limits=[Concurrency(size)])
    async def noop(number: int) -> None: ...

    await queue.enqueue_many([noop.call(n) for n in range(1100)])
    await drain(queue)
    fixed = {
        f"fq:{{test}}:{suffix}" for suffix in ("r", "q", "h", "n", "l", "e", "k", "t", "judge")
    }

    async def only_fixed() -> bool:
        keys = await queue.submitter.wire.ask(("KEYS", "fq:{test}:*"))
        return {key.decode() for key in keys} <= fixed

    await eventually(only_fixed)
    for lane in "rqhnl":
        assert await queue.submitter.wire.ask(("XLEN", f"fq:{{test}}:{lane}")) == 0
    assert await queue.submitter.wire.ask(("XLEN", "fq:{test}:e")) <= 1100

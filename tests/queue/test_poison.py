# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Jobs that do their worst: none of them wedges the queue, its worker, or an operator's view."""

import json

import pytest

from forktex_core.queue import Queue, Retry, metrics
from forktex_core.queue.message import Message
from forktex_core.queue.testing import drain
from tests.queue.test_crashes import killed_worker
from tests.waiting import eventually


class Stubborn(BaseException):
    """What no ``except Exception`` catches."""


class Speechless(Exception):
    """An error that can't even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def surrogate() -> None:
    raise ValueError("half a character: \ud800")


def stubborn() -> None:
    raise Stubborn


def speechless() -> None:
    raise Speechless


def leave() -> None:
    raise SystemExit(3)


def endless_wait() -> None:
    raise Retry(after=float("inf"))


def no_number() -> None:
    raise Retry(after="soon")  # type: ignore[arg-type]


def endless_recursion() -> None:
    endless_recursion()


def huge() -> None:
    raise ValueError("x" * 10_000_000)


POISONS = [
    surrogate,
    stubborn,
    speechless,
    leave,
    endless_wait,
    no_number,
    endless_recursion,
    huge,
]


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
async def test_whatever_a_job_raises_is_its_own_end(queue, poison):
    """A job that raises the unusual is a dead letter; what is queued behind it runs, and the
    worker stays."""
    ran = []

    @queue.job(retries=0)
    async def bad() -> None:
        poison()

    @queue.job
    async def good() -> None:
        ran.append(1)

    await bad.enqueue()
    await good.enqueue()
    await drain(queue, concurrency=1)
    assert ran == [1]
    (letter,) = await queue.failures()
    assert (letter.name, letter.reason) == ("bad", "failed")
    assert len(letter.failure) <= 4000
    stats = await queue.stats()
    assert (stats.waiting, stats.held, stats.delayed) == (0, 0, 0)


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xfe", b"one line", b"a\nb\nc", b"id\nnote\n{broken\n{}", b"i\nn\n[1]\n"]
)
async def test_an_entry_that_is_no_job(queue, garbage):
    """What somebody else wrote into a stream is a dead letter; it stops neither the worker nor
    those who look."""
    ran = []

    @queue.job
    async def note() -> None:
        ran.append(1)

    wire = queue.submitter.wire
    await wire.ask(("XADD", "fq:{test}:n", "*", "m", garbage))
    await wire.ask(("XADD", "fq:{test}:n", "*", "other", "field", "m", garbage))
    await note.enqueue()
    await drain(queue, concurrency=1)
    assert ran == [1]
    letters = await queue.failures()
    assert [letter.reason for letter in letters] == ["failed", "failed"]
    assert "no job" in letters[0].failure
    metrics(await queue.stats())
    assert await queue.requeue() == 2
    await drain(queue)
    assert len(await queue.failures()) == 2


async def test_a_dead_workers_garbage(queue, work):
    """An entry that is no job, in the hand of a worker that died, doesn't keep its jobs from
    being taken back."""
    ran = []

    @queue.job
    async def note() -> None:
        ran.append(1)

    await queue.submitter.wire.ask(("XADD", "fq:{test}:n", "*", "m", b"\xff"))
    await note.enqueue()
    await killed_worker(queue)
    await work()
    await eventually(lambda: ran == [1])
    await eventually(queue.failures)


async def test_garbage_is_purged_and_cancelled(queue):
    """Purging and wishing to cancel get past an entry that is no job."""

    @queue.job
    async def note() -> None: ...

    await queue.submitter.wire.ask(("XADD", "fq:{test}:n", "*", "m", b"\xff"))
    job = await note.enqueue()
    await job.cancel()
    await queue.submitter.wire.ask(("XADD", "fq:{test}:n", "*", "m", b"\xff"))
    await drain(queue)
    await queue.submitter.wire.ask(("XADD", "fq:{test}:n", "*", "m", b"\xff"))
    assert await queue.purge("ready") == 1
    assert (await queue.stats()).counters["note"] == {"enqueued": 1, "cancelled": 1}


async def test_a_thousand_cancelled_jobs(queue):
    """Cancelled jobs in front of others, more than one call ends, are ended and passed."""
    ran = []

    @queue.job
    async def note(number: int) -> None:
        ran.append(number)

    jobs = await queue.enqueue_many([note.call(n) for n in range(1500)])
    wire, root = queue.submitter.wire, queue.link.root
    now = int((await wire.ask(("TIME",)))[0]) * 1000
    await wire.ask(("ZADD", f"{root}:x", *(word for job in jobs for word in (now + 9000, job.id))))
    await note.enqueue(1500)
    await drain(queue, concurrency=1)
    assert ran == [1500]
    assert (await queue.stats()).counters["note"]["cancelled"] == 1500


async def test_drain_of_a_paused_queue(queue):
    """A burst on a paused queue ends: there is nothing that it may take."""

    @queue.job
    async def noop() -> None: ...

    await noop.enqueue()
    await queue.pause()
    await drain(queue)
    assert (await queue.stats()).waiting == 1


async def test_arguments_of_another_release(queue):
    """A job whose stored arguments don't fit the function any more is a dead letter at once, with
    the reason."""

    @queue.job
    async def send(user_id: int) -> None: ...

    message = Message("AAAAAAAAAAAAAAAA", "send", json.dumps({"user": "x"}).encode())
    await queue.submitter.wire.ask(("XADD", "fq:{test}:n", "*", "m", message.encode()))
    await drain(queue)
    (letter,) = await queue.failures()
    assert letter.attempts == 1
    assert "user_id" in letter.failure


async def test_a_job_that_this_worker_does_not_know(queue, redis_url):
    """A job of a newer release waits for a worker that knows it, and ends there."""
    async with Queue(redis_url, "test") as newer:
        ran = []

        @newer.job
        async def fresh() -> None:
            ran.append(1)

        @queue.job
        async def old() -> None: ...

        job = await fresh.enqueue()
        await drain(queue)
        assert await job.status() == "delayed"
        await newer.submitter.wire.ask(("ZADD", "fq:{test}:d", 0, job.id))
        await drain(newer)
        assert await queue.failures() == []
        await eventually(lambda: ran == [1])

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How each public name fails, one by one: a new one without an entry here is red.

More about each is in ``test_refusals.py``."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

import forktex_core.queue as module
from forktex_core.queue import Queue
from forktex_core.queue.message import Message
from forktex_core.queue.testing import drain

NOBODY = "redis://127.0.0.1:1"


class Case(NamedTuple):
    """``act`` raises ``error``, whose message matches ``says``."""

    error: type[Exception]
    says: str
    act: Callable[[Queue], Awaitable[Any]]


def at_once(act: Callable[[], Any]) -> Callable[[Queue], Awaitable[Any]]:
    """For what fails without a queue."""

    async def do(_: Queue) -> None:
        act()

    return do


def send(queue: Queue, **settings: Any) -> Any:
    """A job of the queue."""

    @queue.job(**{"keep": 60, "retries": 0} | settings)
    async def send(user_id: int) -> None:
        raise ValueError(f"no user {user_id}")

    return send


async def failed(queue: Queue) -> None:
    job = await send(queue).enqueue(7)
    await drain(queue)
    await job.result(5)


async def cancelled(queue: Queue) -> None:
    job = await send(queue).enqueue(7)
    await job.cancel()
    await drain(queue)
    await job.result(5)


async def expired(queue: Queue) -> None:
    job = await send(queue).options(expires=0).enqueue(7)
    await drain(queue)
    await job.result(5)


async def full(queue: Queue) -> None:
    async with Queue(queue._url, "small", max_length=1) as small:
        await small.enqueue_many([send(small).call(1), small.jobs["send"].call(2)])


async def large(queue: Queue) -> None:
    async with Queue(queue._url, "narrow", max_bytes=10) as narrow:
        await send(narrow).enqueue(12345678901)


async def progress_without_a_server(_: Queue) -> None:
    async with Queue(NOBODY, timeout=0.05) as far:
        await module.JobContext(far, Message("AAAAAAAAAAAAAAAA", "send", b"{}")).progress(0.5)


async def batch_without_a_server(_: Queue) -> None:
    async with Queue(NOBODY, timeout=0.05) as far:
        await module.Batch("AAAAAAAAAAAAAAAA", [], far.access).left()


async def stats_without_a_server(_: Queue) -> None:
    async with Queue(NOBODY, timeout=0.05) as far:
        await far.stats()


async def init_of_a_connected_queue(queue: Queue) -> None:
    module.init(queue._url)
    try:
        await module.default_queue.stats()
        module.init(queue._url)
    finally:
        await module.close()
        module.default_queue._url = None


async def metrics_of_what_was_not_awaited(queue: Queue) -> None:
    asking = queue.stats()
    try:
        module.metrics(asking)
    finally:
        asking.close()


async def closed_all_the_same(_: Queue) -> None:
    """Closing never fails: not twice, not without a server; using what is closed does."""
    await module.close()
    await module.close()
    await module.default_queue.stats()


async def result_too_soon(queue: Queue) -> None:
    await (await send(queue).enqueue(1)).result(0.01)


async def no_result(queue: Queue) -> None:
    await (await send(queue, keep=0).enqueue(1)).result(0.01)


CASES = {
    "ArgumentsTooLargeError": Case(module.ArgumentsTooLargeError, "10 are allowed: store", large),
    "Backoff": Case(
        module.ConfigurationError, "backoff", at_once(lambda: module.Backoff(first=-1))
    ),
    "Batch": Case(module.QueueUnavailableError, "check the URL", batch_without_a_server),
    "BatchResult": Case(TypeError, "failed", at_once(lambda: module.BatchResult(1))),
    "Call": Case(
        module.ConfigurationError, "function is no call", lambda q: q.enqueue_many([send])
    ),
    "Concurrency": Case(
        module.ConfigurationError, "nothing", at_once(lambda: module.Concurrency(0))
    ),
    "ConfigurationError": Case(
        module.ConfigurationError, "braces", at_once(lambda: Queue(name="{"))
    ),
    "DeadLetter": Case(
        module.ConfigurationError, "no dead letter's id", lambda q: q.requeue(["send"])
    ),
    "Enqueuer": Case(
        module.WrongArgumentsError,
        "user_id: Input should be",
        lambda q: send(q).options(delay=1).enqueue("x"),
    ),
    "Job": Case(module.NoResultError, "not there", result_too_soon),
    "JobCancelledError": Case(module.JobCancelledError, "was cancelled", cancelled),
    "JobContext": Case(module.QueueUnavailableError, "check the URL", progress_without_a_server),
    "JobEndedError": Case(module.JobEndedError, "expired before", expired),
    "JobExpiredError": Case(module.JobExpiredError, "expired before", expired),
    "JobFailedError": Case(module.JobFailedError, "ValueError: no user 7", failed),
    "JobFunction": Case(TypeError, "user_id", lambda q: send(q)()),
    "NoResultError": Case(module.NoResultError, "keeps none", no_result),
    "Options": Case(
        module.ConfigurationError,
        "not both",
        at_once(lambda: module.Options(delay=1, at=datetime.now(UTC))),
    ),
    "Progress": Case(TypeError, "done", at_once(module.Progress)),
    "Queue": Case(module.ConfigurationError, "max_bytes=0", at_once(lambda: Queue(max_bytes=0))),
    "QueueError": Case(module.QueueError, "no job runs here", at_once(module.current_job)),
    "QueueFullError": Case(module.QueueFullError, "0 of 1 jobs: start more", full),
    "QueueUnavailableError": Case(
        module.QueueUnavailableError, "check the URL", stats_without_a_server
    ),
    "Rate": Case(module.ConfigurationError, "nothing", at_once(lambda: module.Rate(0, 1))),
    "Retry": Case(module.ConfigurationError, "no time", at_once(lambda: module.Retry("soon"))),
    "Stats": Case(module.QueueUnavailableError, "check the URL", stats_without_a_server),
    "UnknownJobError": Case(module.UnknownJobError, "it has: none", lambda q: q.enqueue("sent")),
    "Worker": Case(module.ConfigurationError, "needs queues", at_once(lambda: module.Worker({}))),
    "WrongArgumentsError": Case(
        module.WrongArgumentsError, "missing a required argument", lambda q: send(q).enqueue()
    ),
    "close": Case(module.ConfigurationError, "has no server", closed_all_the_same),
    "current_job": Case(module.QueueError, "for job functions", at_once(module.current_job)),
    "default_queue": Case(
        module.ConfigurationError,
        r"queue\.configure\(redis_url\)",
        lambda _: module.default_queue.stats(),
    ),
    "enqueue": Case(module.UnknownJobError, "no job 'sent'", lambda _: module.enqueue("sent")),
    "init": Case(module.ConfigurationError, "close it first", init_of_a_connected_queue),
    "job": Case(
        module.ConfigurationError, "no setting retry", at_once(lambda: module.job(retry=3)(send))
    ),
    "metrics": Case(
        module.ConfigurationError, r"await queue\.stats\(\)", metrics_of_what_was_not_awaited
    ),
    "process": Case(
        module.ConfigurationError, "has no server", lambda _: module.process(signals=False)
    ),
}


@pytest.mark.parametrize("name", module.__all__)
async def test_how_it_fails(queue, name):
    """Each public name has its way to fail: with our error (or Python's own TypeError for a call
    that its signature doesn't allow), which says what to do."""
    case = CASES[name]
    with pytest.raises(case.error) as caught:
        await case.act(queue)
    assert re.search(case.says, str(caught.value)), str(caught.value)


def test_no_entry_is_left_over():
    """There is an entry for each public name, and for nothing else."""
    assert sorted(CASES) == sorted(module.__all__)


@pytest.mark.parametrize("thing", [send, 7, None])
async def test_what_is_no_job(queue, thing):
    """A function that nobody decorated, or anything else, is no job and no call."""
    with pytest.raises(module.ConfigurationError, match="is no job: give a job's name"):
        await queue.enqueue(thing)
    for enqueue in (queue.enqueue_many, queue.batch):
        with pytest.raises(module.ConfigurationError, match=r"is no call of a job: give .*\.call"):
            await enqueue([thing])
    with pytest.raises(module.ConfigurationError, match="is no call of a job"):
        await queue.batch([send(queue).call(1)], then=thing or 0)
    assert (await queue.stats()).counters == {}

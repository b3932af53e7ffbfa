# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How each public name fails: at the caller, with the thing, what is wrong and the mend."""

import math
from datetime import datetime, timedelta

import pytest
import redis.asyncio

import forktex_core.queue as module
from forktex_core.queue import (
    Backoff,
    Concurrency,
    ConfigurationError,
    Queue,
    QueueError,
    QueueFullError,
    QueueUnavailableError,
    Rate,
    Retry,
    UnknownJobError,
    Worker,
    WrongArgumentsError,
    current_job,
)
from forktex_core.queue.testing import drain, inline

HALF = "half a character: \ud800"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"name": ""}, "printable"),
        ({"name": "a{b}"}, "braces"),
        ({"name": "a\x00b"}, "printable"),
        ({"name": HALF}, "printable"),
        ({"max_deliveries": 0}, "max_deliveries"),
        ({"dead_letters": 0}, "dead_letters"),
        ({"dead_after": 0}, "dead_after"),
        ({"timeout": 0}, "timeout"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_queue(words, named):
    """A queue that can't work is refused when it is made."""
    with pytest.raises(ConfigurationError, match=named):
        Queue("redis://localhost", **words)


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://u:secret@x", "redis://x:port", 7])
async def test_queue_url(url):
    """What is no Redis URL is named at the first use, without its password."""
    async with Queue(url, timeout=0.2) as queue:
        with pytest.raises(ConfigurationError, match="no Redis URL") as caught:
            await queue.stats()
    assert "secret" not in str(caught.value)


async def test_no_server():
    """A queue without a URL says how to give one; a connected one takes no other."""
    queue = Queue()
    with pytest.raises(ConfigurationError, match=r"queue\.configure"):
        await queue.stats()
    with pytest.raises(ConfigurationError, match="no server"):
        await queue.process(signals=False)
    queue.configure("redis://localhost:1")
    _ = queue.link
    with pytest.raises(ConfigurationError, match="close it first"):
        queue.configure("redis://localhost:2")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"retry": 3}, r"no setting retry: there are .*retries"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": "3"}, "retries='3'"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"timeout": "1"}, "timeout='1'"),
        ({"unique": "sometimes"}, "unique='sometimes'"),
        ({"unique": True}, "unique=True"),
        ({"unique": 0}, "unique=0"),
        ({"unique": -1}, "unique=-1"),
        ({"priority": "urgent"}, "no priority 'urgent', only high, normal, low"),
        ({"keep": -1}, "keep=-1"),
        ({"keep": math.inf}, "keep=inf"),
        ({"expires": timedelta(-1)}, "expires"),
        ({"limits": [3]}, "3 is no limit"),
        ({"cron": "61 * * * *"}, "no plan"),
        ({"cron": ""}, "no plan"),
        ({"cron": 7}, "no plan"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"cron": "* * * * *", "timezone": "../etc"}, "no plan"),
        ({"cron": "* * * * *", "catch_up": -1}, "catch_up=-1"),
        ({"name": "a\nb"}, "printable"),
        ({"name": HALF}, "printable"),
    ],
)
def test_job_settings(settings, named):
    """A setting of a job that can't work is refused where the job is decorated."""
    with pytest.raises(ConfigurationError, match=named):

        @Queue().job(**settings)
        async def noop() -> None: ...


def test_job_twice():
    """Two jobs of one name are refused; a job that needs arguments can't have a plan."""
    queue = Queue(name="twice")

    @queue.job
    async def noop() -> None: ...

    with pytest.raises(ConfigurationError, match="'twice' has a job 'noop' already"):
        queue.job(name="noop")(lambda: None)
    with pytest.raises(WrongArgumentsError, match="number"):
        queue.job(cron="* * * * *", name="needs")(lambda number: None)
    assert "needs" not in queue.jobs
    assert not queue.crons


async def test_annotations_without_json(queue):
    """An annotation that has no JSON, or names nothing, is refused at the first enqueueing."""

    class Opaque: ...

    @queue.job
    async def opaque(thing: Opaque) -> None: ...

    @queue.job
    async def nameless(thing: "Nothing") -> None: ...  # noqa: F821 - that is the point

    with pytest.raises(ConfigurationError, match="no JSON"):
        await opaque.enqueue(Opaque())
    with pytest.raises(ConfigurationError, match="Nothing"):
        await nameless.enqueue(1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delay": -1}, "delay=-1"),
        ({"delay": math.inf}, "delay=inf"),
        ({"delay": math.nan}, "delay=nan"),
        ({"delay": "5"}, "delay='5'"),
        ({"delay": 1, "at": datetime.now().astimezone()}, "not both"),
        ({"at": datetime.now()}, "no time zone"),  # noqa: DTZ005 - that is the point
        ({"at": "tomorrow"}, "at='tomorrow'"),
        ({"priority": "urgent"}, "only high, normal, low"),
        ({"key": 7}, "key=7"),
        ({"key": HALF}, "no text"),
        ({"key": "k" * 513}, "512 bytes"),
        ({"expires": -1}, "expires=-1"),
        ({"keep": timedelta(days=-1)}, "keep="),
    ],
)
async def test_options(queue, options, named):
    """An option of one enqueueing that can't work is refused at the caller; nothing is enqueued."""

    @queue.job
    async def noop() -> None: ...

    with pytest.raises(ConfigurationError, match=named):
        noop.options(**options)
    with pytest.raises(ConfigurationError, match=named):
        await queue.enqueue("noop", **options)
    with pytest.raises(TypeError, match="dealy"):
        noop.options(dealy=1)
    assert (await queue.stats()).counters == {}


async def test_unknown_job(queue):
    """A name that isn't registered, and a job of another queue, are refused with what there is."""
    with pytest.raises(UnknownJobError, match=r"'sent' \(it has: none\).*@queue.job"):
        await queue.enqueue("sent")
    other = Queue(name="other")

    @other.job
    async def elsewhere() -> None: ...

    with pytest.raises(UnknownJobError, match="elsewhere"):
        await queue.enqueue(elsewhere)
    with pytest.raises(UnknownJobError):
        await module.enqueue("nothing of the default queue")


@pytest.mark.parametrize(("size", "per"), [(0, 1), (-1, 1), (1, 0), (1, -1), (1, math.inf)])
def test_rate(size, per):
    """A rate that admits nothing, or for ever, is refused."""
    with pytest.raises(ConfigurationError, match="Rate"):
        Rate(size, per)


def test_concurrency():
    """A concurrency that admits nothing is refused."""
    with pytest.raises(ConfigurationError, match="admits nothing"):
        Concurrency(0)


@pytest.mark.parametrize(
    "words", [{"first": -1}, {"factor": 0.5}, {"most": -1}, {"first": math.nan}]
)
def test_backoff(words):
    """A backoff that goes backwards is refused."""
    with pytest.raises(ConfigurationError, match="no backoff"):
        Backoff(**words)


@pytest.mark.parametrize("after", ["soon", math.inf, math.nan])
def test_retry(after):
    """A retry at no time is refused."""
    with pytest.raises(ConfigurationError, match="no time"):
        Retry(after)


@pytest.mark.parametrize("words", [{"concurrency": 0}, {"grace": -1}, {"wedged_after": 0}])
def test_worker(words):
    """A worker that can't work is refused, so is one of no queues, of twins, of no weight."""
    with pytest.raises(ConfigurationError, match=next(iter(words))):
        Worker({Queue(): 1}, **words)
    with pytest.raises(ConfigurationError, match="queues"):
        Worker({})
    with pytest.raises(ConfigurationError, match="same name"):
        Worker({Queue(): 1, Queue(): 1})
    with pytest.raises(ConfigurationError, match="weights"):
        Worker({Queue(): 0})


async def test_batch(queue):
    """A batch of nothing, or of too much, is refused."""
    with pytest.raises(ConfigurationError, match="1 to 10000"):
        await queue.batch([])


async def test_batch_is_all_or_nothing(redis_url):
    """A batch that doesn't fit leaves nothing behind."""
    async with Queue(redis_url, max_length=3) as queue:

        @queue.job
        async def noop() -> None: ...

        with pytest.raises(QueueFullError, match="0 of 3"):
            await queue.batch([noop.call()] * 4)
        stats = await queue.stats()
        assert (stats.waiting, stats.counters) == (0, {})


def test_current_job():
    """Outside of a job there is none."""
    with pytest.raises(QueueError, match="no job runs here"):
        current_job()


async def test_everything_without_a_server():
    """Whatever asks the server names it when it isn't there."""
    async with Queue("redis://127.0.0.1:1", timeout=0.05) as queue:
        job = queue.handle("AAAAAAAAAAAAAAAA")
        asks = [queue.stats, queue.failures, queue.requeue, queue.pause, queue.resume]
        asks += [job.status, job.cancel, job.progress, lambda: job.result(1)]
        asks += [lambda: queue.purge("dead"), queue.overview]
        for ask in asks:
            with pytest.raises(QueueUnavailableError, match="check the URL"):
                await ask()


async def test_a_server_that_refuses(redis_url):
    """A refusal of the server (a key of another kind) is our error, with its words."""
    async with redis.asyncio.Redis.from_url(redis_url) as client, Queue(redis_url) as queue:
        await client.set("fq:{default}:n", "no stream")

        @queue.job
        async def noop() -> None: ...

        with pytest.raises(QueueUnavailableError, match="WRONGTYPE"):
            await noop.enqueue()


async def test_purge_of_what(queue):
    """What can't be purged is named."""
    with pytest.raises(ConfigurationError, match="ready, parked, dead"):
        await queue.purge("everything")


@pytest.mark.parametrize("letter", ["nonsense", "1-1-1", ""])
async def test_no_letter(queue, letter):
    """What is no id of a dead letter is named; one that is gone counts for nothing."""
    with pytest.raises(ConfigurationError, match="no dead letter's id"):
        await queue.requeue([letter])
    with pytest.raises(ConfigurationError, match="no dead letter's id"):
        await queue.failures(before=letter)
    assert await queue.requeue(["1-1"]) == 0


async def test_no_limit(queue):
    """At least one dead letter is asked for."""
    for limit in (0, -1):
        with pytest.raises(ConfigurationError, match=f"limit={limit}"):
            await queue.failures(limit=limit)


async def test_no_job_id(queue):
    """What is no job's id has no time, and no result."""
    with pytest.raises(ConfigurationError, match="no job's id"):
        queue.handle("7")


async def test_hook_that_fails(queue):
    """A worker whose start-up fails takes no job, tidies up, and says why."""
    seen = []

    @queue.on_startup
    async def connect(state: dict) -> None:
        raise OSError("no database")

    @queue.on_shutdown
    async def disconnect(state: dict) -> None:
        seen.append("shutdown")

    @queue.job
    async def noop() -> None:
        seen.append("job")

    await noop.enqueue()
    with pytest.raises(OSError, match="no database"):
        await drain(queue)
    assert seen == ["shutdown"]
    assert (await queue.stats()).waiting == 1


async def test_inline_is_as_strict(queue):
    """Inline, wrong and unknown calls fail as they would."""

    @queue.job
    async def half(number: int) -> float:
        return number / 2

    with inline(queue) as ran:
        with pytest.raises(WrongArgumentsError):
            await queue.enqueue("half", "four")
        with pytest.raises(UnknownJobError):
            await queue.enqueue("third", 3)
    assert ran.jobs == []

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Queue: jobs are registered on it, enqueued through it, and run by workers of it."""

import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, overload

from forktex_core.queue import inspect
from forktex_core.queue.arguments import Arguments
from forktex_core.queue.backoff import Backoff
from forktex_core.queue.batch import Batch
from forktex_core.queue.cron import Cron
from forktex_core.queue.definition import Call, Definition, Priority, Unique, check_calls
from forktex_core.queue.duration import Seconds
from forktex_core.queue.envelope import MOST, BatchStart, Envelope, Transport
from forktex_core.queue.errors import ConfigurationError, UnknownJobError
from forktex_core.queue.handle import Access, Job
from forktex_core.queue.job import AnyJob, Enqueuer, JobDecorator, JobFunction, OptionWords
from forktex_core.queue.limits import Limit
from forktex_core.queue.message import born, new_id
from forktex_core.queue.tracing import Tracing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    from forktex_core.queue.context import JobContext
    from forktex_core.queue.link import Link
    from forktex_core.queue.results import Results
    from forktex_core.queue.submit import Submitter

SETTINGS = {field.name for field in fields(Definition)} - {"name", "function", "arguments"}

type Hook = Callable[[dict[str, Any]], Awaitable[None] | None]
type Next = Callable[[], Awaitable[Any]]
type Middleware = Callable[["JobContext", Next], Awaitable[Any]]


class Queue:
    """A queue of jobs on a Redis or Valkey server, single or Cluster.

    ``redis_url`` may come later (`configure`): jobs are decorated at import, settings are known at
    start.
    ``max_bytes``: JSON of a job's arguments; ``max_length``: jobs that the queue may hold (None: as
    memory allows);
    ``max_deliveries``: workers that a job may take down before it is a dead letter;
    ``dead_letters``: how many are kept;
    ``dead_after``: seconds without a sign of life after which a worker counts as dead; ``timeout``:
    seconds for any answer
    of the server; ``outbox``: the engine of the database for ``session=``; ``tracing``:
    OpenTelemetry, None: when installed.

    Nothing connects before the first use. Close with `close` or ``async with``."""

    def __init__(
        self,
        redis_url: str | None = None,
        name: str = "default",
        *,
        max_bytes: int = 256 * 1024,
        max_length: int | None = None,
        max_deliveries: int = 3,
        dead_letters: int = 10_000,
        dead_after: float = 5.0,
        timeout: float = 5.0,
        outbox: "AsyncEngine | None" = None,
        tracing: bool | None = None,
    ) -> None:
        if not name or set(name) & set("{}") or not name.isprintable():
            raise ConfigurationError(
                f"a queue can't be called {name!r}: give a printable name without braces"
            )
        if max_deliveries < 1 or dead_after < 0.1 or timeout <= 0 or dead_letters < 1:
            raise ConfigurationError(
                f"queue {name!r}: max_deliveries, dead_letters and timeout must be above 0, "
                "dead_after 0.1 s or more"
            )
        if max_bytes < 2 or (max_length is not None and max_length < 1):
            raise ConfigurationError(
                f"queue {name!r}: max_bytes={max_bytes}, max_length={max_length} let nothing in"
            )
        self.name, self.max_bytes = name, max_bytes
        self.max_deliveries, self.dead_letters, self.dead_after = (
            max_deliveries,
            dead_letters,
            dead_after,
        )
        self.timeout, self.outbox = timeout, outbox
        self.jobs: dict[str, AnyJob] = {}
        self.crons: list[Cron] = []
        self.startup: list[Hook] = []
        self.shutdown: list[Hook] = []
        self.layers: list[Middleware] = []
        self.tracing = Tracing.when(tracing)
        self.transport: Transport | None = None
        self._url, self._max_length = redis_url, max_length
        self._link: Link | None = None
        self._submitter: Submitter | None = None
        self._results: Results | None = None
        self._access: Access | None = None

    def __repr__(self) -> str:
        return f"<queue {self.name!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        submitter = getattr(self, "_submitter", None)
        if submitter is not None and submitter.wire.connected:
            warnings.warn(f"{self!r} was not closed: await queue.close()", ResourceWarning, 1)

    # Registering

    @overload
    def job[**P, R](
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def job[**P, R](self, function: Callable[P, R], /) -> JobFunction[P, R, R]: ...
    @overload
    def job(
        self,
        *,
        name: str | None = None,
        retries: int = 3,
        timeout: Seconds | None = 300.0,
        backoff: Backoff = ...,
        unique: Unique = None,
        limits: Sequence[Limit] = (),
        priority: Priority = "normal",
        keep: Seconds = 0,
        expires: Seconds | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        catch_up: Seconds = 0,
    ) -> JobDecorator: ...
    def job(  # type: ignore[misc]  # mypy doesn't match keyword-only words with **settings
        self,
        function: Callable[..., Any] | None = None,
        /,
        **settings: Any,
    ) -> Any:
        """Register a function, ``async def`` or ``def`` (which runs in a thread), as a job.

        ``name``: the function's; ``retries`` after a first failure, each after a ``backoff``;
        ``timeout``: seconds of one
        attempt, or None; ``unique``: at most one job per key (its arguments, or ``key=``) while it
        is "queued", until it is
        "done", or for a period; ``limits``: `Rate` and `Concurrency`; ``priority``; ``keep``:
        seconds that results are kept;
        ``expires``: seconds after which a waiting job isn't worth starting. ``cron``: five or six
        fields as in cron(5), read
        in ``timezone``: the job is enqueued at each such time once, however many workers there are;
        a time at which no worker
        ran is made up for when it is no longer ago than ``catch_up`` seconds.

        Raises ConfigurationError."""
        cron = settings.pop("cron", None)
        where = (settings.pop("timezone", "UTC"), settings.pop("catch_up", 0))
        plan = (cron, *where) if cron is not None else None
        if function is not None:
            return self._register(function, plan, settings)
        return lambda function: self._register(function, plan, settings)

    def _register(
        self,
        function: Callable[..., Any],
        plan: tuple[str, str, Seconds] | None,
        settings: dict[str, Any],
    ) -> AnyJob:
        name = self._new_name(settings.pop("name", None) or getattr(function, "__name__", ""))
        unknown = settings.keys() - SETTINGS
        if unknown:
            raise ConfigurationError(
                f"job {name!r}: no setting {', '.join(sorted(unknown))}: "
                f"there are {', '.join(sorted(SETTINGS))}"
            )
        settings["limits"] = tuple(settings.get("limits", ()))
        timeout = settings.get("timeout")
        if isinstance(timeout, timedelta):
            settings["timeout"] = timeout.total_seconds()
        definition = Definition(name, function, Arguments(name, function), **settings)
        job: AnyJob = JobFunction(self, definition)
        if plan is not None:
            self.crons.append(Cron(job.call(), *plan))
        self.jobs[name] = job
        return job

    def _new_name(self, name: str) -> str:
        if not name or "\n" in name or not name.isprintable():
            raise ConfigurationError(
                f"a job can't be called {name!r}: give @queue.job(name=…), printable"
            )
        if name in self.jobs:
            raise ConfigurationError(
                f"queue {self.name!r} has a job {name!r} already: give one @queue.job(name=…)"
            )
        return name

    def on_startup[F: Hook](self, hook: F) -> F:
        """Run ``hook(state)`` before a worker takes its first job; jobs find ``state`` in their
        context."""
        self.startup.append(hook)
        return hook

    def on_shutdown[F: Hook](self, hook: F) -> F:
        """Run ``hook(state)`` after a worker's last job."""
        self.shutdown.append(hook)
        return hook

    def middleware[M: Middleware](self, layer: M) -> M:
        """Run ``await layer(context, call_next)`` around every job; the first registered is the
        outermost."""
        self.layers.append(layer)
        return layer

    # Enqueueing

    async def enqueue(self, job: str | AnyJob, /, *args: Any, **words: Any) -> Job[Any]:
        """Enqueue a job by its name: the arguments are the job's, but for the words of `Options`
        and ``session``.

        (A job that has parameters of those names is enqueued with ``job.options(…).enqueue(…)``.)
        Raises UnknownJobError, WrongArgumentsError, QueueFullError, QueueUnavailableError."""
        found = self.find(job)
        options = {name: words.pop(name) for name in OptionWords.__annotations__ if name in words}
        enqueuer: Enqueuer[..., Any] = found.options(**options)
        return await enqueuer.enqueue(*args, **words)

    async def enqueue_many(
        self, calls: Sequence[Call[Any]], *, session: "AsyncSession | None" = None
    ) -> list[Job[Any]]:
        """Enqueue calls (``send_email.call(user_id=1)``) in few round trips; up to 1,000 at a
        time are all or nothing. Raises ConfigurationError, QueueFullError,
        QueueUnavailableError."""
        check_calls(calls)
        trace = self.tracing.current() if self.tracing else None
        envelopes = [call.envelope(trace) for call in calls]
        if session is not None:
            from forktex_core.queue.outbox import write

            await write(self, session, envelopes)
            replies = [""] * len(envelopes)
        else:
            replies = []
            for at in range(0, len(envelopes), MOST):
                replies += await self._transport.submit(envelopes[at : at + MOST])
        return [
            self._job(call, envelope, reply)
            for call, envelope, reply in zip(calls, envelopes, replies, strict=True)
        ]

    async def batch(self, calls: Sequence[Call[Any]], *, then: Call[Any] | None = None) -> Batch:
        """Enqueue up to 10,000 calls as a batch, all or nothing; when the last of them has ended,
        enqueue ``then``.

        The callback finds the numbers in ``current_job().batch``. Raises ConfigurationError,
        QueueFullError, QueueUnavailableError."""
        if not 0 < len(calls) <= Batch.MOST:
            raise ConfigurationError(
                f"a batch has 1 to {Batch.MOST} jobs, not {len(calls)}: make several batches"
            )
        check_calls(calls if then is None else [*calls, then])
        trace = self.tracing.current() if self.tracing else None
        start = BatchStart(new_id(), then.envelope(trace).message if then is not None else None)
        envelopes = [call.envelope(trace, start.id) for call in calls]
        replies = await self._transport.submit(envelopes, start)
        jobs = [
            self._job(call, envelope, reply)
            for call, envelope, reply in zip(
                calls, envelopes, replies or [""] * len(calls), strict=True
            )
        ]
        return Batch(start.id, jobs, self.access)

    def handle(self, job_id: str) -> Job[Any]:
        """A handle on the job with this id, enqueued by whomever; its result is plain JSON
        values. Raises ConfigurationError."""
        try:
            born(job_id)
        except ValueError as error:
            raise ConfigurationError(f"{job_id!r} is no job's id: take Job.id") from error
        return Job(job_id, self.access, lambda value: value)

    def find(self, job: str | AnyJob) -> AnyJob:
        """The registered job. Raises UnknownJobError, ConfigurationError."""
        if not isinstance(job, str | JobFunction):
            raise ConfigurationError(
                f"{job!r} is no job: give a job's name, or what @queue.job made of its function"
            )
        name = job if isinstance(job, str) else job.definition.name
        if name not in self.jobs:
            raise UnknownJobError(self.name, name, list(self.jobs))
        return self.jobs[name]

    def _job(self, call: Call[Any], envelope: Envelope, reply: str) -> Job[Any]:
        """The handle of a call that was just enqueued; ``reply`` names the job that holds its
        unique key."""
        own = reply in ("", "-")
        keeps = "r" in envelope.message.options
        decode = call.definition.arguments.decode_result
        job_id = envelope.message.id if own else reply
        return Job(job_id, self.access, decode, keeps=keeps, created=own)

    # Running

    async def process(self, *, concurrency: int = 100, **options: Any) -> None:
        """Run a worker of this queue until SIGTERM or SIGINT; the words are those of `Worker`."""
        from forktex_core.queue.worker import Worker

        await Worker({self: 1}, concurrency=concurrency, **options).run()

    # Looking after it

    async def pause(self) -> None:
        """Stop all workers from taking jobs; running ones go on. It outlasts every process."""
        await self._control(("SET", f"{self.link.root}:z", 1), "pause")

    async def resume(self) -> None:
        """Undo `pause`."""
        await self._control(("DEL", f"{self.link.root}:z"), "resume")

    async def _control(self, command: tuple[str | int, ...], notice: str) -> None:
        tell = ("XADD", f"{self.link.root}:k", "MAXLEN", "~", 1000, "*", notice, 1)
        await self.submitter.wire.insist(command)
        await self.submitter.wire.insist(tell)

    async def stats(self) -> inspect.Stats:
        """Depths, ages, counters and workers at this moment."""
        return await inspect.stats(self.access, self.name)

    async def overview(self, *, failures: int = 20) -> dict[str, Any]:
        """What a page about the queue shows, as plain JSON values: the fields of `Stats`, the
        newest ``failures`` (fields of `DeadLetter`), the ``schedules`` registered here."""
        return await inspect.overview(self.access, self.name, self.crons, failures)

    async def failures(
        self, *, limit: int = 100, before: str | None = None
    ) -> list[inspect.DeadLetter]:
        """The newest dead letters, or those before the letter ``before``."""
        return await inspect.failures(self.access, limit, before)

    async def requeue(self, letters: Sequence[str] | None = None) -> int:
        """Put dead letters (their ``letter`` ids; None: all) back into the queue; how many went."""
        return await inspect.requeue(self.access, letters)

    async def purge(self, what: inspect.Purgeable) -> int:
        """Drop the "ready", the "parked" (delayed, or waiting for a limit) or the "dead" jobs;
        how many went."""
        return await inspect.purge(self.access, what)

    # The outbox

    async def create_outbox(self) -> None:
        """Make the outbox's schema ``forktex_queue`` in the ``outbox`` database, or bring it up
        to date."""
        from forktex_core.queue.outbox import migrate

        await migrate(self)

    async def relay(self) -> int:
        """Enqueue what committed transactions left in the outbox; how many. Workers do it every
        second."""
        from forktex_core.queue.outbox import relay

        return await relay(self)

    # Connections

    def configure(self, redis_url: str) -> Self:
        """Say where the server is, before the first use. Raises ConfigurationError after it."""
        if self._link is not None:
            raise ConfigurationError(f"{self!r} is connected already: close it first")
        self._url = redis_url
        return self

    async def close(self) -> None:
        """Close the connections; the queue connects again when it is used again. Idempotent."""
        if self.outbox is not None:
            from forktex_core.queue.outbox import finish_relays

            await finish_relays(self)
        if self._results is not None:
            await self._results.close()
        if self._submitter is not None:
            await self._submitter.close()
        self._link = self._submitter = self._results = self._access = None

    @property
    def link(self) -> "Link":
        """The way to the queue's server. Raises ConfigurationError without a URL."""
        if self._link is None:
            self._link = self.new_link()
        return self._link

    def new_link(self) -> "Link":
        """A way of its own, for another event loop. Raises ConfigurationError without a URL."""
        from forktex_core.queue.link import Link

        if self._url is None:
            raise ConfigurationError(
                f"{self!r} has no server: give Queue(redis_url) or queue.configure(redis_url)"
            )
        return Link(self._url, self.name, self.timeout)

    @property
    def submitter(self) -> "Submitter":
        """The transport to Redis."""
        if self._submitter is None:
            from forktex_core.queue.submit import Submitter

            self._submitter = Submitter(self.link, self._max_length)
        return self._submitter

    @property
    def access(self) -> Access:
        """What handles and views need."""
        if self._access is None:
            from forktex_core.queue.results import Results

            self._results = Results(self.link, self.submitter.wire)
            self._access = Access(self.link.root, self.submitter.wire, self._results)
        return self._access

    @property
    def _transport(self) -> Transport:
        return self.transport or self.submitter

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What ``@queue.job`` makes of a function: the function still, and ways to enqueue it, typed
like it."""

import functools
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack, cast, overload

from forktex_core.queue.definition import Call, Definition, Options, Priority, call_of
from forktex_core.queue.duration import Seconds
from forktex_core.queue.handle import Job

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from forktex_core.queue.queue import Queue


class OptionWords(TypedDict, total=False):
    """The options of one enqueueing; see `Options`."""

    delay: Seconds
    at: datetime
    priority: Priority
    key: str
    expires: Seconds
    keep: Seconds
    session: "AsyncSession"


class Enqueuer[**P, R]:
    """Enqueues one job with certain options."""

    def __init__(
        self,
        queue: "Queue",
        definition: Definition,
        options: Options,
        session: "AsyncSession | None" = None,
    ) -> None:
        self.definition = definition
        self._queue, self._options, self._session = queue, options, session

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The job with its arguments, for `Queue.enqueue_many` and `Queue.batch`. Raises
        WrongArgumentsError."""
        return call_of(self.definition, args, kwargs, self._options, self._queue.max_bytes)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue the job. Raises WrongArgumentsError, ArgumentsTooLargeError, QueueFullError,
        QueueUnavailableError."""
        (job,) = await self._queue.enqueue_many([self.call(*args, **kwargs)], session=self._session)
        return cast("Job[R]", job)


class JobFunction[**P, R, C](Enqueuer[P, R]):
    """A registered function. Calling it calls the function, here and now; C is what that gives."""

    def __init__(self, queue: "Queue", definition: Definition) -> None:
        super().__init__(queue, definition, Options())
        functools.update_wrapper(self, definition.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return cast("Callable[P, C]", self.definition.function)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.definition.name!r} of queue {self._queue.name!r}>"

    def options(self, **words: Unpack[OptionWords]) -> Enqueuer[P, R]:
        """The same job with options: ``send_email.options(delay=5).enqueue(user_id=1)``; see
        `Options`.

        With ``session=`` the job is written in that SQLAlchemy session's transaction and enqueued
        after its commit."""
        given: dict[str, Any] = dict(words)
        session = given.pop("session", None)
        return Enqueuer(self._queue, self.definition, Options(**given), session)


class JobDecorator(Protocol):
    """What ``@queue.job(…)`` with options is."""

    @overload
    def __call__[**P, R](
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__[**P, R](self, function: Callable[P, R], /) -> JobFunction[P, R, R]: ...


type AnyJob = JobFunction[Any, Any, Any]

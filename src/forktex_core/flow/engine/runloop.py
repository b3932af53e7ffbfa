# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The event loop that a workflow body runs on: a deterministic one, one per run.

A body is ordinary asyncio code. Its tasks and futures live on this loop instead of the worker's,
which makes three things true without asking anything of the author:

- *Order.* Callbacks run first in, first out, and nothing comes in from outside but what the run's
  journal delivers, one completion at a time. So the body's scheduling is a function of the journal.
- *Paths.* Every task gets its place in the tree of branches when it is created (``asyncio.gather``,
  ``TaskGroup`` and ``create_task`` all come through ``create_task`` here), so the keys of its
  durable calls don't depend on who runs first.
- *Time.* ``time()`` is the run's logical clock, and every timer (``asyncio.sleep``, ``timeout``,
  ``wait_for``) is a durable
  one: its firing is journaled like any other completion.

What would reach outside (sockets, executors, subprocesses, signal handlers) is refused with the
mend named: it belongs into a step. The loop never blocks and never runs by itself: drain() runs
what is ready, from a callback of the real loop.
"""

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, override
from weakref import WeakSet

from forktex_core.flow.errors import ContextMisuseError


class Branch:
    """A place in the tree of concurrent branches of a body; it numbers the durable calls made
    there.
    """

    __slots__ = ("count", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0

    def next_key(self) -> str:
        """Return the journal key of the next durable call of this branch."""
        self.count += 1
        return f"{self.path}{self.count}"


# How often a coroutine may wait once more while it is closed.
_MOST_STOPS = 100

branch_of_task: contextvars.ContextVar[Branch] = contextvars.ContextVar("forktex_flow_branch")


class DurableTimer(events.TimerHandle):
    """A timer of the body; ``key`` is its place in the journal."""

    key: str = ""
    _scheduled: bool


class _Ready(asyncio.Handle):
    """A callback that is ready to run, without what only a debugging loop asks of a handle."""

    __slots__ = ()

    def __init__(  # the parent's own looks for the loop's debug mode first
        self,
        callback: Callable[..., Any],
        args: Sequence[Any],
        loop: "RunLoop",
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class RunLoop(asyncio.AbstractEventLoop):
    """See the top of the file.

    Args:
        now: the run's logical time to begin with, seconds since the epoch.
        on_timer: called with each new DurableTimer.
        on_timer_cancelled: called when the body gives a timer up.
    """

    def __init__(
        self,
        now: float,
        on_timer: Callable[[DurableTimer], None],
        on_timer_cancelled: Callable[[DurableTimer], None],
    ) -> None:
        self.now = now
        self.root = Branch("")
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._on_timer = on_timer
        self._on_timer_cancelled = on_timer_cancelled
        self._fatal: BaseException | None = None

    def drain(self) -> None:
        """Run callbacks until every task of the body waits for something that only a delivery can
        bring.
        """
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            ready = self._ready
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:
                    try:
                        handle._run()
                    except (
                        SystemExit,
                        KeyboardInterrupt,
                    ):  # asyncio re-raises what the task holds already
                        continue
        finally:
            events._set_running_loop(before)

    @property
    def running(self) -> bool:
        """Whether the code that asks runs on this loop."""
        return events._get_running_loop() is self

    def run_now(self, handle: asyncio.Handle) -> None:
        """Queue the callback of a timer that fired."""
        self._ready.append(handle)

    def close_tasks(self) -> None:
        """Drop what still runs, without letting the unwinding code go anywhere (the owner sealed
        the run before).
        """
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in list(self._tasks):
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task)
        finally:
            self._ready.clear()
            events._set_running_loop(before)

    # What asyncio itself asks of a loop.

    @override
    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = _Ready(callback, args, self, context)
        self._ready.append(handle)
        return handle

    @override
    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    @override
    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        if when <= self.now:
            return self.call_soon(callback, *args, context=context)
        timer = DurableTimer(when, callback, args, self, context)
        timer.key = branch_of_task.get(self.root).next_key()
        timer._scheduled = True
        self._on_timer(timer)
        return timer

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._on_timer_cancelled(handle)

    @override
    def time(self) -> float:
        return self.now

    @override
    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    @override
    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Any = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        parent = branch_of_task.get(self.root)
        context = contextvars.copy_context() if context is None else context.copy()
        context.run(branch_of_task.set, Branch(parent.next_key() + "."))
        return self._task(coro, name, context)

    def create_main_task(
        self, coro: Coroutine[Any, Any, Any], branch: Branch | None = None
    ) -> asyncio.Task[Any]:
        """Begin the body itself, on the root branch, or what follows it on another."""
        context = contextvars.copy_context()
        context.run(branch_of_task.set, branch or self.root)
        return self._task(coro, "body", context)

    def _task(
        self, coro: Coroutine[Any, Any, Any], name: str | None, context: contextvars.Context
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "branch", context=context)
        self._tasks.add(task)
        return task

    @override
    def get_debug(self) -> bool:
        return False

    @override
    def is_running(self) -> bool:
        return True

    @override
    def is_closed(self) -> bool:
        return False

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore it: a branch nobody awaits has no say in the run's outcome."""

    @override
    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        _refuse("a call from another thread")

    @override
    def run_in_executor(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        _refuse("work in a thread (run_in_executor, asyncio.to_thread)")


def _close(task: asyncio.Task[Any]) -> None:
    """Close a task's coroutine. Each ``finally`` and task group in it may stop once more on its way
    out, to wait for what will never come; code that won't be closed at all is left behind.
    """
    close = task.get_coro().close  # type: ignore[union-attr]
    for _ in range(_MOST_STOPS):
        try:
            task.get_context().run(close)
            return
        except RuntimeError:  # "coroutine ignored GeneratorExit", or the code's own: then it ended
            continue
        except BaseException:  # noqa: BLE001 - whatever it raised, it ended
            return


_OUTSIDE = frozenset(
    name
    for name in vars(asyncio.AbstractEventLoop)
    if name.startswith(
        (
            *("create_conn", "create_serv", "create_unix", "create_data", "connect_", "sock_"),
            *("subprocess_", "add_", "remove_", "getaddrinfo", "getnameinfo", "sendfile"),
            *("start_tls", "run_", "stop", "close", "shutdown_"),
        )
    )
) - {"run_in_executor"}


def _refuse(what: str) -> NoReturn:
    raise ContextMisuseError(
        f"{what} inside a workflow body: a body must do the same on every replay, so whatever "
        "reaches outside belongs "
        "into a step (await ctx.step(fn, ...))"
    )


def _refuser(name: str) -> Callable[..., NoReturn]:
    def refuse(_self: RunLoop, *_: Any, **__: Any) -> NoReturn:
        _refuse(f"loop.{name}")

    return refuse


for _name in _OUTSIDE:
    setattr(RunLoop, _name, _refuser(_name))

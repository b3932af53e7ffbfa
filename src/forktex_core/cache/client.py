# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An open client: commands with a prefix, a bound on connections, and a breaker per server.

The way of a command: a slot (is a connection free?), the breaker (is the server known to be
down?), the driver. An outage is logged once when it begins and once when it ends, however many
calls it hits.
"""

import asyncio
import logging
import time
import warnings
from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from .breaker import Breaker
from .endpoint import parse
from .errors import CacheCommandError, CacheNotInitialisedError, CacheUnavailableError
from .events import CacheEvent, EventKind
from .flight import Flights
from .local import LocalTier
from .settings import Settings
from .tracking import Tracker

if TYPE_CHECKING:
    from .driver import Argument, Command, Driver, Key

logger = logging.getLogger("forktex_core.cache")

_FAILURES_TO_OPEN = 3
_COOLDOWN = 1.0
_QUIET = 5.0


class Health(NamedTuple):
    """The answer to a health check.

    Attributes:
        ok: whether every primary answered.
        seconds: how long the check took.
        error: what was wrong; `None` when nothing was.
    """

    ok: bool
    seconds: float
    error: str | None


class CacheClient:
    """A client of one server, one cluster or one sentinel-watched primary.

    ``async with CacheClient(Settings(url)) as client`` opens one to pass as ``client=``; `init`
    opens and names one for the whole process.

    Args:
        settings: the settings.
        name: what messages call the client.

    Raises:
        CacheConfigurationError: the URL is of no known form.
    """

    def __init__(self, settings: Settings, name: str = "default") -> None:
        self.settings = settings
        self.name = name
        self.flights = Flights()
        self.refreshing: set[str] = set()
        self.local = LocalTier(settings.local_entries, settings.local_bytes)
        self._endpoint = parse(settings.url)
        self._prefix = f"{settings.prefix}:" if settings.prefix else ""
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._breakers: dict[str, Breaker] = {}
        self._driver: Driver | None = None
        self._tracker: Tracker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._outage = False
        self._outage_met = 0.0

    async def open(self) -> Self:
        """Open the client and see that the server answers.

        Raises:
            CacheUnavailableError: it doesn't; with ``fail_open`` that is only logged.
        """
        from .driver import Driver  # redis-py takes 0.4 s to import

        self._driver = Driver(self._endpoint, self.settings)
        self._tracker = Tracker(self._driver, self.local)
        self._loop = asyncio.get_running_loop()
        try:
            await self._ping()
        except CacheUnavailableError as exc:
            if not self.settings.fail_open:
                await self.close()
                raise
            self.note_outage(exc)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Stop background work and close every connection. Closing twice does nothing."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            await tracker.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await driver.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_driver", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"CacheClient<{self.name} at {self._endpoint.shown}>"

    @property
    def is_open(self) -> bool:
        """Whether the client is open on the running event loop."""
        return self._driver is not None and self._loop is asyncio.get_running_loop()

    @property
    def abandoned(self) -> bool:
        """Whether the event loop that the client was opened on is closed."""
        return self._loop is not None and self._loop.is_closed()

    def abandon(self) -> None:
        """Forget the connections of a closed event loop: nothing can close them any more."""
        self._driver = None

    @property
    def driver(self) -> "Driver":
        """The driver.

        Raises:
            CacheNotInitialisedError: the client is closed, or belongs to another event loop.
        """
        if self._driver is None:
            raise CacheNotInitialisedError(self.name, "is closed: await init(url) before using it")
        if self._loop is not asyncio.get_running_loop():
            raise CacheNotInitialisedError(
                self.name,
                "belongs to another event loop: await close() there and await init(url) here",
            )
        return self._driver

    @property
    def tracker(self) -> Tracker:
        """What keeps the local tier true."""
        if self._tracker is None:
            raise CacheNotInitialisedError(self.name, "is closed: await init(url) before using it")
        return self._tracker

    def key[K: str | bytes](self, key: K) -> K:
        """A key with the client's prefix."""
        if isinstance(key, bytes):
            return cast("K", self._prefix.encode() + key)
        return cast("K", self._prefix + key)

    def execute(self, key: "Key", *command: "Argument") -> Awaitable[Any]:
        """Send a command that concerns a key (with its prefix); return the reply.

        Raises:
            CacheUnavailableError: no usable answer, or the breaker is open.
            CacheCommandError: the server refused the command.
        """
        driver = self.driver
        return self._guarded(driver.node_of(key), driver.execute, command)

    async def pipeline(self, commands: "Sequence[Command]", *, atomic: bool = False) -> list[Any]:
        """Send many commands at once, each with its key behind its name; return their replies."""
        driver = self.driver
        shares: dict[str, list[int]] = {}
        for number, command in enumerate(commands):
            shares.setdefault(driver.node_of(cast("Key", command[1])), []).append(number)
        replies: list[Any] = [None] * len(commands)

        async def send(node: str, share: list[int]) -> None:
            sent = ([commands[number] for number in share], atomic)
            for number, reply in zip(
                share, await self._guarded(node, driver.pipeline, sent), strict=True
            ):
                replies[number] = reply

        # All shares are sent, whatever becomes of one: a dead node doesn't stop the living ones.
        sending = [send(node, share) for node, share in shares.items()]
        for problem in await asyncio.gather(*sending, return_exceptions=True):
            if problem is not None:
                raise problem
        return replies

    def execute_on(self, name: str, node: Any, *command: "Argument") -> Awaitable[Any]:
        """Send a command to one of the driver's primaries."""
        return self._guarded(name, self.driver.execute_on, (node, *command))

    async def _guarded(self, node: str, send: Any, command: tuple[Any, ...]) -> Any:
        breaker = self._breakers.get(node)
        if breaker is None:
            breaker = self._breakers[node] = Breaker(_FAILURES_TO_OPEN, _COOLDOWN)
        if self._slots.locked():
            await self._wait_for_slot()
        else:
            await self._slots.acquire()
        try:
            if breaker.failures:
                self._refuse_if_open(breaker)
            reply = await send(*command)
        except CacheUnavailableError as exc:
            if exc.transport:
                breaker.failed(time.monotonic())
            raise
        except CacheCommandError:
            self._answered(breaker)
            raise
        finally:
            self._slots.release()
        if breaker.failures or self._outage:
            self._answered(breaker)
        return reply

    async def _wait_for_slot(self) -> None:
        try:
            async with asyncio.timeout(self.settings.timeouts.pool):
                await self._slots.acquire()
        except TimeoutError:
            raise CacheUnavailableError(
                self._endpoint.shown,
                f"all {self.settings.max_connections} connections stayed in use for "
                f"{self.settings.timeouts.pool} s: raise max_connections or timeouts.pool",
                transport=False,
            ) from None

    def _refuse_if_open(self, breaker: Breaker) -> None:
        now = time.monotonic()
        if breaker.refuses(now):
            raise CacheUnavailableError(
                self._endpoint.shown,
                f"{breaker.failures} calls in a row got no answer; "
                f"it is tried again in {breaker.wait(now):.1f} s",
                transport=False,
            )

    def _answered(self, breaker: Breaker) -> None:
        breaker.succeeded()
        # Other nodes of a cluster answer all the while: its outage ends when nobody met it lately.
        quiet = not self.settings.cluster or time.monotonic() - self._outage_met > _QUIET
        if self._outage and quiet:
            self._outage = False
            logger.info("%r: Redis answers again", self)

    def note_outage(self, exc: CacheUnavailableError) -> None:
        """Say once per outage that the service goes on without Redis."""
        self._outage_met = time.monotonic()
        if not self._outage:
            self._outage = True
            logger.warning("%r: going on without it: %s", self, exc)

    def report(self, kind: EventKind, name: str, started: float) -> None:
        """Tell the hook of something that began at `started` (monotonic)."""
        if self.settings.hook is None:
            return
        try:
            self.settings.hook(CacheEvent(kind, name, time.monotonic() - started))
        except Exception:
            logger.exception("%r: the hook failed on %s of %s", self, kind, name)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run something in the background until it ends or the client closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ping(self) -> None:
        for name, node in await self.driver.primaries():
            await self.execute_on(name, node, "PING")

    async def health(self) -> Health:
        """Ask every primary for a sign of life."""
        started = time.monotonic()
        try:
            await self._ping()
        except (CacheUnavailableError, CacheCommandError) as exc:
            return Health(False, time.monotonic() - started, str(exc))
        return Health(True, time.monotonic() - started, None)

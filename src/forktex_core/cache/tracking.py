# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keeping the local tier true: RESP3 client tracking in broadcasting mode.

Protocol. One connection per primary, outside of the pool, asks the server to announce every change
below the watched prefixes. It is `ready` from the server's OK on; from then on an announcement
drops the name locally. Any trouble (an error, silence after a PING, a new prefix) first makes the
primary unready and clears the tier, then reconnects. An entry may be kept only while the primary
that holds its key is ready, judged before the read, so nothing that was read unwatched is kept.
A primary that goes silent is noticed after one idle second and one command timeout: for that long a
partition can serve old values.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import CacheError
from .local import LocalTier

if TYPE_CHECKING:
    from .driver import Driver, Key

logger = logging.getLogger("forktex_core.cache")

_IDLE = 1.0
_RETRY = 0.2


def shortest_prefixes(prefixes: Iterable[str]) -> list[str]:
    """The prefixes that cover all of them: the server refuses overlapping ones."""
    covering: list[str] = []
    for prefix in sorted(prefixes):
        if not covering or not prefix.startswith(covering[-1]):
            covering.append(prefix)
    return covering


class Tracker:
    """Watches every primary for changes below the prefixes that the local tier holds.

    Args:
        driver: where to connect.
        local: the tier to keep true.
    """

    def __init__(self, driver: "Driver", local: LocalTier) -> None:
        self._driver = driver
        self._local = local
        self._prefixes: set[str] = set()
        self._ready: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def ready(self, key: "Key") -> bool:
        """Whether changes of a key are announced right now."""
        return self._driver.node_of(key) in self._ready

    def watch(self, prefix: str) -> None:
        """Watch one more prefix; the first starts the watching."""
        if prefix in self._prefixes:
            return
        self._prefixes.add(prefix)
        self._lose(None)
        previous = self._task
        if previous is not None:
            previous.cancel()
        self._task = asyncio.get_running_loop().create_task(self._supervise(previous))

    async def stop(self) -> None:
        """Stop watching and forget what was kept."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._lose(None)

    def _lose(self, node: str | None) -> None:
        if node is None:
            self._ready.clear()
        self._ready.discard(node or "")
        self._local.clear()

    async def _supervise(self, previous: asyncio.Task[None] | None) -> None:
        """Keep one watcher per primary; in a cluster primaries come and go."""
        if previous is not None:  # its last act is to mark its primaries unready
            await asyncio.gather(previous, return_exceptions=True)
        watchers: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                current = await self._primaries()
                for gone in set(watchers) - set(current):
                    watchers.pop(gone).cancel()
                for name, node in current.items():
                    if name not in watchers:
                        watchers[name] = asyncio.create_task(self._watch_primary(name, node))
                await asyncio.sleep(_IDLE)
        finally:
            for watcher in watchers.values():
                watcher.cancel()
            await asyncio.gather(*watchers.values(), return_exceptions=True)

    async def _primaries(self) -> dict[str, Any]:
        try:
            return dict(await self._driver.primaries())
        except CacheError as exc:  # the cluster can't be reached now
            logger.debug("no primaries to watch: %s", exc)
            return {}

    async def _watch_primary(self, name: str, node: Any) -> None:
        while True:
            connection = self._driver.connection_to(node)
            try:
                await self._listen(name, connection)
            except Exception as exc:  # noqa: BLE001  # whatever it was, the tier is void: reconnect
                logger.debug("tracking of %s interrupted: %s", name or "the server", exc)
            finally:
                self._lose(name)
                await connection.disconnect(nowait=True)
            await asyncio.sleep(_RETRY)

    async def _listen(self, name: str, connection: Any) -> None:
        await connection.connect()
        connection._parser.set_invalidation_push_handler(  # noqa: SLF001  # no public way
            self._announced
        )
        prefixes = shortest_prefixes(self._prefixes)
        options = [word for prefix in prefixes for word in ("PREFIX", prefix)]
        await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *options)
        await connection.read_response()
        self._ready.add(name)
        while True:
            reply = await connection.read_response(timeout=_IDLE, push_request=True)
            if reply is None:
                await self._ping(connection)

    async def _ping(self, connection: Any) -> None:
        await connection.send_command("PING")
        while await connection.read_response(push_request=True) != b"PONG":
            pass

    async def _announced(self, push: list[Any]) -> bool:
        """React to ``[invalidate, names]``; no names means that everything was flushed."""
        if push[1] is None:
            self._local.clear()
        else:
            self._local.drop(
                item.decode(errors="surrogateescape") if isinstance(item, bytes) else item
                for item in push[1]
            )
        return True

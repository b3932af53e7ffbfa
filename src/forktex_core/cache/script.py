# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Lua scripts: sent by their digest, in full only to a server that doesn't know them yet."""

from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CacheCommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import CacheClient
    from .driver import Argument, Key


class Script:
    """A script of the ``lua`` folder.

    Args:
        name: the file's name without its ending.
    """

    def __init__(self, name: str) -> None:
        self._path = Path(__file__).with_name("lua") / f"{name}.lua"

    @cached_property
    def _source(self) -> str:
        return self._path.read_text(encoding="utf-8")

    @cached_property
    def _digest(self) -> bytes:
        return sha1(self._source.encode(), usedforsecurity=False).hexdigest().encode()

    async def run(self, client: "CacheClient", keys: "Sequence[Key]", *args: "Argument") -> Any:
        """Run on keys (with their prefix, in one slot); return the reply.

        A server that lost its scripts (a restart, a failover, SCRIPT FLUSH) says so before running
        anything, so sending the source then can't run it twice.
        """
        rest = (len(keys), *keys, *args)
        try:
            return await client.execute(keys[0], "EVALSHA", self._digest, *rest)
        except CacheCommandError as exc:
            if not exc.missing_script:
                raise
        return await client.execute(keys[0], "EVAL", self._source, *rest)

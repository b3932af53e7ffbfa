# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How a client is set up."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import CacheConfigurationError
from .events import CacheEvent


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection to be made.
        command: for a command to be sent, and for its reply.
        pool: for a connection to become free when all are in use.
    """

    connect: float = 0.25
    command: float = 0.25
    pool: float = 5.0

    def __post_init__(self) -> None:
        if min(self.connect, self.command, self.pool) <= 0:
            raise CacheConfigurationError(f"timeouts are positive numbers of seconds, not {self}")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a client; `init` documents them."""

    url: str = field(repr=False)
    prefix: str | None = None
    max_connections: int = 50
    timeouts: Timeouts = Timeouts()
    cluster: bool = False
    fail_open: bool = False
    hook: Callable[[CacheEvent], object] | None = None
    local_entries: int = 1_000
    local_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.max_connections < 1:
            raise CacheConfigurationError(f"max_connections is {self.max_connections}: at least 1")
        if self.local_entries < 1 or self.local_bytes < 1:
            raise CacheConfigurationError("local_entries and local_bytes are at least 1")
        if self.prefix is not None and (not self.prefix or set(self.prefix) & set("{}*?[]\\")):
            raise CacheConfigurationError(
                f"prefix {self.prefix!r}: a prefix isn't empty and has no braces or glob characters"
            )

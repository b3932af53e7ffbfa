# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can go wrong in `forktex_core.cache`.

CacheError
├── CacheConfigurationError    a setting or a declaration that can't work
├── CacheNotInitialisedError   used before `init`, after `close`, or on another event loop
├── CacheKeyError              a key part or an argument without a stable text
├── CacheValueError            a value that can't be stored: not typed JSON, or too large
├── CacheCommandError          the server refused a command
├── CacheUnavailableError      no answer from the server: down, timed out, no connection free
└── LockError
    ├── LockTimeoutError       somebody else held the lock for as long as you would wait
    └── LockLostError          the lock ran out or was taken while you held it
"""


class CacheError(Exception):
    """Any failure of this module."""


class CacheConfigurationError(CacheError):
    """A setting or a declaration that can't work; the message says which and what to write."""


class CacheNotInitialisedError(CacheError):
    """There is no open client of that name on this event loop.

    Attributes:
        client: the client's name.
    """

    def __init__(self, client: str, problem: str) -> None:
        super().__init__(f"cache client {client!r} {problem}")
        self.client = client


class CacheKeyError(CacheError):
    """A part of a key, or an argument of a cached function, has no stable text."""


class CacheValueError(CacheError):
    """A value can't be stored, or what is stored can't be read as the type that was asked for.

    Attributes:
        key: the key, the cached function or the command that the value belongs to.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class CacheCommandError(CacheError):
    """The server answered a command with an error (a wrong type, a missing permission).

    Attributes:
        command: the command's name.
        missing_script: whether the error is that the script isn't loaded.
    """

    def __init__(self, command: str, problem: str, *, missing_script: bool = False) -> None:
        super().__init__(f"{command}: {problem}")
        self.command = command
        self.missing_script = missing_script


class CacheUnavailableError(CacheError):
    """The server gave no answer: it is down or unreachable, too slow, or no connection was free.

    A command that failed so may or may not have taken effect.

    Attributes:
        server: where the server is (without credentials).
        transport: whether the connection failed, as opposed to a server that can't serve now.
    """

    def __init__(self, server: str, problem: str, *, transport: bool = True) -> None:
        super().__init__(f"Redis at {server} is unavailable: {problem}")
        self.server = server
        self.transport = transport


class LockError(CacheError):
    """A lock couldn't be taken or kept.

    Attributes:
        name: the lock's name.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"lock {name!r} {problem}")
        self.name = name


class LockTimeoutError(LockError):
    """Somebody else held the lock for as long as the caller would wait."""


class LockLostError(LockError):
    """The lock ran out, or was taken by somebody else, while the caller believed to hold it."""

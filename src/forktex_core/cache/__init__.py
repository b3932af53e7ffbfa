# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Redis: values kept across a fleet, exact rate limits, typed operations.

Start with `init`, end with `close`; then `cached`, `rate_limit`, `get_json` and the rest work on
that client. ``docs/cache.md`` is the guide; every error is a `CacheError`.
"""

from .cached import BoundCachedFunction, CachedFunction, cached
from .client import CacheClient, Health
from .collection import hdel, hget, hgetall, hincr, hset, sadd, sismember, smembers, srem
from .errors import (
    CacheCommandError,
    CacheConfigurationError,
    CacheError,
    CacheKeyError,
    CacheNotInitialisedError,
    CacheUnavailableError,
    CacheValueError,
    LockError,
    LockLostError,
    LockTimeoutError,
)
from .events import CacheEvent, Tallies, Tally
from .limit import Decision, Limit, RateLimiter, Usage, rate_limit
from .lock import HeldLock, lock
from .namespace import Namespace
from .operations import (
    delete,
    exists,
    expire,
    get_json,
    get_or_set,
    incr,
    mget,
    mset,
    set_json,
    ttl,
)
from .pattern import delete_pattern
from .registry import close, get_client, health, init
from .settings import Settings, Timeouts
from .tags import invalidate_tags

__all__ = [
    "BoundCachedFunction",
    "CacheClient",
    "CacheCommandError",
    "CacheConfigurationError",
    "CacheError",
    "CacheEvent",
    "CacheKeyError",
    "CacheNotInitialisedError",
    "CacheUnavailableError",
    "CacheValueError",
    "CachedFunction",
    "Decision",
    "Health",
    "HeldLock",
    "Limit",
    "LockError",
    "LockLostError",
    "LockTimeoutError",
    "Namespace",
    "RateLimiter",
    "Settings",
    "Tallies",
    "Tally",
    "Timeouts",
    "Usage",
    "cached",
    "close",
    "delete",
    "delete_pattern",
    "exists",
    "expire",
    "get_client",
    "get_json",
    "get_or_set",
    "hdel",
    "health",
    "hget",
    "hgetall",
    "hincr",
    "hset",
    "incr",
    "init",
    "invalidate_tags",
    "lock",
    "mget",
    "mset",
    "rate_limit",
    "sadd",
    "set_json",
    "sismember",
    "smembers",
    "srem",
    "ttl",
]

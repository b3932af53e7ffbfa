# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durations as users write them: seconds, or a `timedelta`."""

from datetime import timedelta

from .errors import CacheConfigurationError

type Seconds = float | timedelta


def seconds(duration: Seconds) -> float:
    """A duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def milliseconds(duration: Seconds) -> int:
    """A lifetime in milliseconds.

    Raises:
        CacheConfigurationError: it is shorter than one.
    """
    lifetime = round(seconds(duration) * 1000)
    if lifetime < 1:
        raise CacheConfigurationError(f"a lifetime is at least a millisecond, not {duration}")
    return lifetime

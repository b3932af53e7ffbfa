# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Durations as users give them and as the server counts them."""

from datetime import timedelta

from forktex_core.queue.errors import ConfigurationError

type Seconds = float | timedelta

LONGEST = 100 * 365 * 24 * 3600.0  # seconds: what the server's clock can still reckon with


def milliseconds(value: Seconds, what: str) -> int:
    """A duration in whole milliseconds; ConfigurationError when it is none that can be."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"{what}={value!r} is no duration: give seconds or a timedelta")
    if not 0 <= seconds <= LONGEST:
        raise ConfigurationError(
            f"{what}={value!r} can't be: give 0 seconds or more, up to a hundred years"
        )
    return round(seconds * 1000)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From the arguments of `StorageClient.signed_url` to what a backend signs. Pure."""

from datetime import datetime, timedelta

from .access import PublicAccess
from .backends.protocol import LinkRequest
from .content_type import content_disposition, guess_content_type, is_active
from .errors import InvalidTTL


def link_request(
    key: str,
    *,
    access: PublicAccess,
    ttl_seconds: int,
    filename: str | None,
    content_type: str | None,
    max_bytes: int | None,
    now: datetime,
    clock_skew: timedelta,
    longest: int,
) -> LinkRequest:
    """Check the arguments, and let the link begin before ``now`` for hosts whose clocks are behind.

    ``longest`` is what the provider signs at most, in seconds, from beginning to end.
    """
    if access is PublicAccess.none:
        raise ValueError(
            "A signed URL gives read or write access; PublicAccess.none would give nothing."
        )
    writing = access is PublicAccess.write
    if writing and filename is not None:
        raise ValueError("filename= is for read access: it names the file that the browser saves.")
    if max_bytes is not None and (not writing or max_bytes <= 0):
        raise ValueError("max_bytes= is positive and for write access: it limits a browser upload.")
    check_ttl(ttl_seconds, longest)
    moment = now.replace(microsecond=0)
    return LinkRequest(
        key=key,
        access=access,
        begins=moment - min(clock_skew, timedelta(seconds=longest - ttl_seconds)),
        expires=moment + timedelta(seconds=ttl_seconds),
        content_type=content_type,
        content_disposition=None if writing else disposition(key, filename, content_type),
        max_bytes=max_bytes,
    )


def check_ttl(ttl_seconds: int, longest: int) -> None:
    """Raise `InvalidTTL` unless the provider signs for that long."""
    if not 1 <= ttl_seconds <= longest:
        raise InvalidTTL(
            f"ttl_seconds must be between 1 and {longest} for this store, got {ttl_seconds}; "
            "for longer, use a public area, PublicLinks with a signer, or callback_url()."
        )


def disposition(key: str, filename: str | None, content_type: str | None) -> str | None:
    """Return how a browser must treat the object: what could run code is never shown in place."""
    if filename is not None:
        return content_disposition(filename)
    return "attachment" if is_active(content_type or guess_content_type(key)) else None

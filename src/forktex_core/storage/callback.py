# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Signed URLs of the service's own domain.

The URL carries the key in its path and, in its query, bucket, expiry, key id, optional overrides
and an HMAC-SHA256 over all of them, each percent-encoded and on a line of its own, so that no two
URLs have the same text. The first key signs, every key verifies: to rotate, put the new key first,
and drop the old one when the longest link has expired.
"""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from .backends.protocol import SignedURL
from .errors import LinkExpired, LinkInvalid
from .links import check_url

MIN_SECRET_BYTES = 16
_DOMAIN = "forktex-storage-callback-1"
_FIELDS = ("b", "e", "f", "t", "k")


@dataclass(frozen=True, slots=True)
class CallbackClaims:
    """What a verified callback URL grants: reading one object until ``expires_at``."""

    bucket: str
    key: str
    expires_at: datetime
    filename: str | None = None
    content_type: str | None = None


class CallbackSigner:
    """Signs and verifies URLs below ``base_url`` with named secrets of at least 16 bytes.

    ``clock_skew`` in seconds is how long a link is still accepted after its end, for hosts whose
    clocks differ.
    """

    def __init__(
        self, base_url: str, keys: Mapping[str, bytes | str], *, clock_skew: int = 30
    ) -> None:
        check_url("base_url", base_url)
        if not keys:
            raise ValueError("A callback signer needs at least one key.")
        self._base = base_url.rstrip("/")
        self._path = urlsplit(self._base).path
        self._keys = {name: _secret(name, value) for name, value in keys.items()}
        self._current = next(iter(keys))
        self._skew = timedelta(seconds=clock_skew)

    def __repr__(self) -> str:
        return f"CallbackSigner({self._base!r}, keys={list(self._keys)})"

    def sign(self, claims: CallbackClaims) -> SignedURL:
        """Return the URL for what is granted."""
        query = {
            "b": claims.bucket,
            "e": str(int(claims.expires_at.timestamp())),
            "f": claims.filename or "",
            "t": claims.content_type or "",
            "k": self._current,
        }
        query["s"] = self._mac(self._current, claims.key, query)
        text = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
        return SignedURL(
            f"{self._base}/{quote(claims.key, safe='/-._~')}?{text}",
            method="GET",
            expires_at=claims.expires_at,
        )

    def verify(self, url: str, *, now: datetime) -> CallbackClaims:
        """Return what a URL grants; host and base path may be missing, as behind a proxy.

        Raises `LinkInvalid` or, for a genuine one that is too old, `LinkExpired`.
        """
        parts = urlsplit(url)
        query = _single(parts.query)
        key = unquote(parts.path.removeprefix(self._path)).removeprefix("/")
        name, given = query.get("k", ""), query.pop("s", "")
        if name not in self._keys or not hmac.compare_digest(
            self._mac(name, key, query).encode(), given.encode()
        ):
            raise LinkInvalid(
                "The signature of the link is wrong, or its key was retired.", key=key
            )
        expires = datetime.fromtimestamp(int(query["e"]), UTC)
        if now > expires + self._skew:
            raise LinkExpired(
                f"The link ended at {expires:%Y-%m-%d %H:%M:%S} UTC.", bucket=query["b"], key=key
            )
        return CallbackClaims(
            query["b"], key, expires, query.get("f") or None, query.get("t") or None
        )

    def _mac(self, name: str, key: str, query: Mapping[str, str]) -> str:
        lines = (_DOMAIN, key, *(query.get(field, "") for field in _FIELDS))
        text = "\n".join(quote(line, safe="") for line in lines)
        digest = hmac.digest(self._keys[name], text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _single(query: str) -> dict[str, str]:
    """Read a query in which each known field stands once; anything else was not made by us."""
    pairs = parse_qsl(query, keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs) or not set(found) <= {*_FIELDS, "s"}:
        raise LinkInvalid("The link has fields that were not signed.")
    return found


def _secret(name: str, value: bytes | str) -> bytes:
    secret = value.encode() if isinstance(value, str) else bytes(value)
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"The callback key {name!r} has {len(secret)} bytes; "
            f"it needs at least {MIN_SECRET_BYTES}."
        )
    return secret

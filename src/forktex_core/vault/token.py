# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The two forms of a token, and what can be read off them without a key.

A *bare* token is Fernet's own, as its specification lays it out: base64url of
``0x80 | time (8 bytes) | IV (16) | ciphertext | HMAC (32)``. An *enveloped* one has the fingerprint
of its key in front: ``fk1:<12 hex digits>:<bare token>``. The fingerprint only chooses the key: it
isn't signed and needn't be, since a wrong one leads to a key that doesn't verify, or to none.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from forktex_core.vault.errors import MalformedTokenError
from forktex_core.vault.keys import FINGERPRINT_LENGTH

MARK = "fk1:"
ENVELOPE_LENGTH = len(MARK) + FINGERPRINT_LENGTH + 1
_VERSION = 0x80
_HEAD = 1 + 8 + 16
_HMAC = 32
_BLOCK = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEX = frozenset("0123456789abcdef")


def prefix_of(fingerprint: str) -> str:
    """Return what every enveloped token of this key begins with."""
    return f"{MARK}{fingerprint}:"


def split(token: object) -> tuple[str | None, str]:
    """Split a token into its fingerprint (None when it is bare) and the Fernet token.

    Raises:
        MalformedTokenError: it isn't ASCII, or the envelope is broken.
        TypeError: it is neither str nor bytes.
    """
    if isinstance(token, bytes):
        token = token.decode("latin-1")
    if not isinstance(token, str):
        msg = f"a token is a str or bytes, not {type(token).__name__}"
        raise TypeError(msg)
    if not token.isascii():
        raise _malformed("it holds characters outside of base64url")
    if not token.startswith(MARK):
        return None, token
    fingerprint = token[len(MARK) : ENVELOPE_LENGTH - 1]
    if token[ENVELOPE_LENGTH - 1 : ENVELOPE_LENGTH] != ":" or not _HEX.issuperset(fingerprint):
        raise _malformed("what follows 'fk1:' is no fingerprint")
    return fingerprint, token[ENVELOPE_LENGTH:]


def timestamp(bare: str) -> int:
    """Check the structure of a bare token and return its time in seconds since 1970.

    Raises:
        MalformedTokenError: it can't be a Fernet token, whatever the key.
    """
    return int.from_bytes(_structure(bare)[1:9])


def _structure(bare: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(bare)
    except binascii.Error:
        raise _malformed("it isn't base64url") from None
    if not data or data[0] != _VERSION:
        raise _malformed("it doesn't begin with Fernet's version byte")
    if len(data) < _HEAD + _BLOCK + _HMAC:
        raise _malformed(f"it is cut short ({len(data)} bytes)")
    if (len(data) - _HEAD - _HMAC) % _BLOCK:
        raise _malformed("its ciphertext isn't made of whole blocks: bytes are missing or added")
    return data


def _malformed(reason: str) -> MalformedTokenError:
    return MalformedTokenError(
        f"malformed token: {reason} (was it stored in the clear, or cut by a short column?)"
    )


def token_length(payload_bytes: int) -> int:
    """Return the length of a bare token over so many bytes of plaintext."""
    data = _HEAD + (payload_bytes // _BLOCK + 1) * _BLOCK + _HMAC
    return -(-data // 3) * 4


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What a token tells to anyone, without its being verified.

    Attributes:
        fingerprint: of the key it names; None for a bare token.
        created: when it was made, as it says, to the second.
        payload_bytes: upper bound of the payload's size (Fernet pads by 1 to 16 bytes).
    """

    fingerprint: str | None
    created: datetime
    payload_bytes: int

    def age(self, now: datetime | None = None) -> timedelta:
        """Return how old the token is, by this machine's clock unless `now` is given."""
        return (now or datetime.now(UTC)) - self.created


def inspect_token(token: str | bytes) -> TokenInfo:
    """Read a token's fingerprint and time. No key is needed, and nothing is verified.

    Raises:
        MalformedTokenError: it isn't a token.
    """
    fingerprint, bare = split(token)
    data = _structure(bare)
    try:
        created = _EPOCH + timedelta(seconds=int.from_bytes(data[1:9]))
    except OverflowError:
        raise _malformed("its time is beyond the calendar") from None
    return TokenInfo(fingerprint, created, len(data) - _HEAD - _HMAC - 1)

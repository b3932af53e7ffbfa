# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What can go wrong in the vault.

    VaultError
    ├── InvalidKeyError            a key that is no key (also a ValueError)
    ├── DecryptionError            a token that doesn't open
    │   ├── MalformedTokenError    not a token at all, or cut short
    │   ├── UnverifiedTokenError   a bare token that no key verifies: unknown key or tampered
    │   │   ├── UnknownKeyError    its fingerprint names a key that this vault doesn't have
    │   │   └── TamperedTokenError its key is known, and the signature is wrong
    │   └── ExpiredTokenError      authentic, and older than the ``ttl`` asked for
    ├── PayloadError               a value that can't be written, or doesn't fit what is read
    │   └── PayloadTooLargeError   above the vault's ``max_bytes``
    ├── NotSearchableError         an encrypted column in a comparison or an ORDER BY
    └── RotationError              a rotation that did not reach its end; carries its report

No message holds key material, a payload, or the text of a token (what fails to parse as a token may
well be a secret that was stored in the clear). SQLAlchemy wraps errors of a column type into one
that prints all parameters of the statement, the plaintext among them: `DontWrapMixin` keeps it
from doing so with ours.
"""

from typing import TYPE_CHECKING

from sqlalchemy.exc import DontWrapMixin

if TYPE_CHECKING:
    from forktex_core.vault.report import RotationReport


class VaultError(DontWrapMixin, Exception):
    """The root of all errors of `forktex_core.vault`."""


class InvalidKeyError(VaultError, ValueError):
    """A key is not 32 bytes in base64url. The message says how to make one."""


class DecryptionError(VaultError):
    """A token doesn't open. `known` holds the fingerprints of the vault's keys."""

    def __init__(self, message: str, *, known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.known = known


class MalformedTokenError(DecryptionError):
    """The input isn't a Fernet token, bare or behind a fingerprint."""


class UnverifiedTokenError(DecryptionError):
    """No key of the vault verifies this token.

    Raised itself for a bare token, whose format can't tell an unknown key from a changed byte;
    its two subclasses for tokens that carry a fingerprint.
    """


class UnknownKeyError(UnverifiedTokenError):
    """The token names a key that the vault doesn't have, as after a rotation.

    `fingerprint` is the one that the token names.
    """

    def __init__(self, message: str, *, fingerprint: str, known: tuple[str, ...]) -> None:
        super().__init__(message, known=known)
        self.fingerprint = fingerprint


class TamperedTokenError(UnverifiedTokenError):
    """The vault has the key that the token names, and the signature is not its own."""


class ExpiredTokenError(DecryptionError):
    """The token is authentic and its time is outside of what `ttl` allows."""


class PayloadError(VaultError, ValueError):
    """A value can't be written as asked for, or what was read doesn't fit the type."""


class PayloadTooLargeError(PayloadError):
    """A payload above the vault's `max_bytes`; `size` and `limit` are in bytes."""

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class NotSearchableError(VaultError, TypeError):
    """An encrypted column in a comparison: equal values have different tokens."""


class RotationError(VaultError):
    """A rotation stopped before everything was on the new key.

    `report` says how far it came. What was rotated stays rotated: calling again goes on.
    """

    def __init__(self, message: str, *, report: "RotationReport") -> None:
        super().__init__(message)
        self.report = report

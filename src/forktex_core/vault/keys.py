# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One key: its Fernet form, its public fingerprint and what is derived from it.

Everything derived comes from HKDF-SHA256 (RFC 5869) over the 32 bytes of the key, with a salt of
this library's and an ``info`` that begins with the purpose, so that a fingerprint, a bound subkey,
a tenant's key and an index key tell nothing of one another: `docs/design/vault.md` argues it.
"""

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NoReturn, Self
from uuid import UUID

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

type Part = str | int | UUID
"""One part of a context: a table, a column, a row's id."""

type Context = Part | Sequence[Part]
"""Where a token belongs, such as ``("invoice", "payload", invoice_id)``."""

type Purpose = Literal["fingerprint", "context", "tenant", "index"]

_PART = (str, int, UUID)  # Made once: this is on the way of every bound token.
_SALT = b"forktex_core.vault 1"
_KEY_BYTES = 32
_BOUND_KEYS = 128  # Subkeys kept ready per key: a column has one, a bound row needs its own.
FINGERPRINT_LENGTH = 12


def encode_context(context: Context) -> bytes:
    """Encode a context so that no two differ in parts and agree in bytes.

    Each part is its `str` in UTF-8 behind its length, hence ``("ab", "c")`` is not ``("a", "bc")``;
    an id counts the same as a number and as text.

    Raises:
        TypeError: a part is neither str, int nor UUID, or their order isn't certain (a set).
        ValueError: there is no part, or an empty one (an id that isn't assigned yet, most likely).
    """
    parts = (context,) if isinstance(context, _PART) else context
    if not isinstance(parts, tuple | list):
        msg = f"a context is a part or a tuple of parts, not {type(context).__name__}"
        raise TypeError(msg)
    if not parts:
        msg = "a context needs at least one part, such as ('table', 'column', row_id)"
        raise ValueError(msg)
    try:
        return _encode_parts(*parts)
    except TypeError:  # An unhashable part: only the function itself says what is wrong with it.
        return _encode_parts.__wrapped__(*parts)


def bind(context: Context | None) -> bytes | None:
    """Encode a context; None is none."""
    return None if context is None else encode_context(context)


@lru_cache(_BOUND_KEYS, typed=True)
def _encode_parts(*parts: Part) -> bytes:
    return b"".join(map(_encode_part, parts))


def _encode_part(part: object) -> bytes:
    if not isinstance(part, _PART) or part is True or part is False:
        msg = f"a part of a context is a str, an int or a UUID, not {type(part).__name__}"
        raise TypeError(msg)
    text = str(part).encode()
    if not text:
        msg = "a part of a context is empty; it must name a place"
        raise ValueError(msg)
    return len(text).to_bytes(4) + text


class Secretive:
    """Holds keys: a copy is the thing itself, and nothing pickles it."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = f"a {type(self).__name__} is not pickled, for it holds keys; make it in each process"
        raise TypeError(msg)


class Key(Secretive):
    """32 secret bytes that never show."""

    __slots__ = ("_secret", "bound", "fernet", "fingerprint")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.fernet = Fernet(base64.urlsafe_b64encode(secret))
        self.bound = lru_cache(_BOUND_KEYS)(self._bind)
        digest = self.derive("fingerprint")
        self.fingerprint = digest.hex()[:FINGERPRINT_LENGTH]

    def derive(self, purpose: Purpose, context: bytes = b"") -> bytes:
        """Derive 32 bytes for one purpose and context."""
        info = purpose.encode() + b"\0" + context
        return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=_SALT, info=info).derive(
            self._secret
        )

    def for_context(self, context: bytes | None) -> Fernet:
        """Return the Fernet that seals tokens of this context; None is the plain key's."""
        return self.fernet if context is None else self.bound(context)

    def _bind(self, context: bytes) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self.derive("context", context)))

    def __repr__(self) -> str:
        return f"<Key {self.fingerprint}>"


def read_key(text: object) -> Key | str:
    """Read a key, or say what is wrong with it.

    It returns the complaint instead of raising it: no frame of the traceback then holds the text.
    """
    reveal = getattr(text, "get_secret_value", None)  # A pydantic SecretStr of the settings.
    text = reveal() if reveal else text
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not isinstance(text, str):
        return f"a key is a str or bytes, not {type(text).__name__}"
    text = text.strip()
    try:
        secret = base64.b64decode(text.encode().translate(_FROM_URLSAFE), validate=True)
    except binascii.Error:
        return f"this key ({len(text)} characters) isn't base64url"
    if len(secret) != _KEY_BYTES:
        return f"this key holds {len(secret)} bytes instead of {_KEY_BYTES}"
    return Key(secret)


_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")

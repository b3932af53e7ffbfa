# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The vault: keys in, tokens out."""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, overload

from cryptography.fernet import Fernet

from forktex_core.vault import payload as codecs
from forktex_core.vault.errors import (
    ExpiredTokenError,
    InvalidKeyError,
)
from forktex_core.vault.keyring import Keyring
from forktex_core.vault.keys import Context, Key, Part, Secretive, bind, read_key
from forktex_core.vault.token import split, timestamp, token_length

if TYPE_CHECKING:
    from pydantic import SecretStr

    type KeyText = str | bytes | SecretStr

MAX_BYTES = 1_048_576
_SKEW = 60  # Seconds that a token's clock may be ahead, as in the Fernet reference.
_HOW_TO_MAKE_ONE = (
    "a key is 32 random bytes in base64url, 44 characters; make one with Vault.generate_key() or "
    "`forktex-vault generate-key`"
)


class Vault(Secretive):
    """Encrypts with its first key, decrypts with any of its keys.

    Make one with `from_key` or `from_keys`; it is immutable, and threads and tasks may share it.
    Nothing about it shows a key: its repr has fingerprints, copies are itself, pickling is refused.
    """

    __slots__ = ("_clock", "_max_bytes", "keyring")

    def __init__(
        self,
        keyring: Any,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(keyring, Keyring):
            msg = "make a vault with Vault.from_key(key) or Vault.from_keys([new, old])"
            raise TypeError(msg)
        self.keyring: Keyring = keyring
        self._max_bytes = max_bytes
        self._clock = clock

    @classmethod
    def from_key(
        cls,
        key: "KeyText",
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make a vault of one key.

        Args:
            key: 32 bytes in base64url, as text, bytes or pydantic's `SecretStr`.
            max_bytes: the largest payload, encoded and uncompressed, that is written or read.
            clock: seconds since 1970, for the tokens' time and for `ttl`.

        Raises:
            InvalidKeyError: it is no such key.
        """
        ring = [read_key(key)]
        del key  # A traceback that shows local variables must not show this one.
        return cls(_keyring(ring), max_bytes=max_bytes, clock=clock)

    @classmethod
    def from_keys(
        cls,
        keys: "Iterable[KeyText]",
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make a vault that encrypts with the first key and decrypts with any: ``[new, old]``.

        Raises:
            InvalidKeyError: one of them is no key, or there is none; says which, never shows it.
        """
        if isinstance(keys, str | bytes):
            keys = [keys]
        ring = [read_key(key) for key in keys]
        del keys
        return cls(_keyring(ring), max_bytes=max_bytes, clock=clock)

    @staticmethod
    def generate_key() -> str:
        """Make a fresh key: 32 bytes of the operating system's randomness in base64url."""
        return Fernet.generate_key().decode()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that this vault encrypts with: 12 hex digits, safe to log."""
        return self.keyring.first.fingerprint

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of all keys that this vault decrypts with, the encrypting one first."""
        return self.keyring.fingerprints

    def encrypt(
        self,
        payload: Any,
        type_: Any = None,
        *,
        context: Context | None = None,
        compress: bool = False,
        envelope: bool = False,
    ) -> str:
        """Encrypt a JSON value, or a value of a type that pydantic knows.

        Args:
            payload: any JSON value; with `type_`, any value of that type.
            type_: such as a pydantic model, `datetime`, `UUID`, `Decimal`, `bytes`.
            context: binds the token to a place: only the same context decrypts it.
            compress: gzip before encrypting. The length of a token then tells something about its
                content, so never where an attacker chooses a part of the payload.
            envelope: put ``fk1:<fingerprint>:`` in front, as the column types do.

        Returns:
            A standard Fernet token (behind its envelope, when asked for).

        Raises:
            PayloadError: the value is no JSON, or none of the type.
            PayloadTooLargeError: it is above `max_bytes`.
        """
        try:
            bound, at = bind(context), int(self._clock())
            data = codecs.sanitized(
                codecs.write, _codec(type_), payload, self._max_bytes, compress=compress
            )
        finally:
            del payload  # Nothing that raises has plaintext among its local variables.
        return self.keyring.seal(data, at, bound, envelope=envelope)

    @overload
    def decrypt(
        self,
        token: str | bytes,
        type_: None = None,
        *,
        context: Context | None = None,
        ttl: float | timedelta | None = None,
    ) -> Any: ...
    @overload
    def decrypt(
        self,
        token: str | bytes,
        type_: codecs.Codec,
        *,
        context: Context | None = None,
        ttl: float | timedelta | None = None,
    ) -> Any: ...
    @overload
    def decrypt[T](
        self,
        token: str | bytes,
        type_: type[T],
        *,
        context: Context | None = None,
        ttl: float | timedelta | None = None,
    ) -> T: ...
    def decrypt(
        self,
        token: str | bytes,
        type_: Any = None,
        *,
        context: Context | None = None,
        ttl: float | timedelta | None = None,
    ) -> Any:
        """Decrypt what `encrypt` made, bare or enveloped, or any Fernet token over JSON.

        Args:
            token: the token.
            type_: the type that the payload is read as; without one it is plain JSON.
            context: the context that it was encrypted with.
            ttl: refuse a token that is older than so many seconds.

        Raises:
            MalformedTokenError: it is no token.
            UnknownKeyError: its key is none of this vault's.
            TamperedTokenError: its key is known and doesn't verify it (or the context differs).
            UnverifiedTokenError: a bare token, which is one of these two.
            ExpiredTokenError: it is authentic, and too old for `ttl` or from the future.
            PayloadError: it is authentic, and its content is no JSON or doesn't fit the type.
        """
        return codecs.sanitized(
            codecs.read,
            _codec(type_),
            self.decrypt_bytes(token, context=context, ttl=ttl),
            self._max_bytes,
        )

    def encrypt_bytes(
        self, data: bytes, *, context: Context | None = None, envelope: bool = False
    ) -> str:
        """Encrypt bytes as they are; arguments and errors as for `encrypt`."""
        try:
            bound, at = bind(context), int(self._clock())
            codecs.check_size(len(data), self._max_bytes)
        except Exception:
            del data  # As in `encrypt`.
            raise
        return self.keyring.seal(data, at, bound, envelope=envelope)

    def decrypt_bytes(
        self,
        token: str | bytes,
        *,
        context: Context | None = None,
        ttl: float | timedelta | None = None,
    ) -> bytes:
        """Decrypt a token to its bytes; arguments and errors as for `decrypt`."""
        fingerprint, bare = split(token)
        if len(bare) > token_length(self._max_bytes):
            codecs.check_size(len(bare) // 4 * 3, self._max_bytes)
        stale = None if ttl is None else self._staleness(bare, ttl)
        data = self.keyring.unseal(fingerprint, bare, bind(context))[0]
        if stale is None:
            return data
        del data
        raise ExpiredTokenError(stale, known=self.fingerprints)

    def _staleness(self, bare: str, ttl: float | timedelta) -> str | None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        age = int(self._clock()) - timestamp(bare)
        if age > seconds:
            return f"expired: the token is {age} s old and {seconds:g} s are allowed"
        if age < -_SKEW:
            return f"expired: the token is from {-age} s in the future; is a clock wrong?"
        return None

    def derive(self, *parts: Part) -> "Vault":
        """Return the vault of a tenant (or of any other scope), its keys derived from these.

        ``vault.derive(org_id)`` needs no storage and is the same in every process. Its tokens carry
        fingerprints of its own; neither this vault nor another tenant's decrypts them.
        """
        return Vault(self.keyring.derive(parts), max_bytes=self._max_bytes, clock=self._clock)

    def wrap_new_key(self, *, context: Context | None = None) -> str:
        """Make a random data key and return it wrapped (encrypted) by this vault.

        Store it with its tenant, with the tenant's id as context: deleting it forgets the tenant.
        """
        return self.encrypt_bytes(Fernet.generate_key(), context=context, envelope=True)

    def unwrap_key(self, wrapped: str | bytes, *, context: Context | None = None) -> "Vault":
        """Return the vault of a wrapped data key.

        Raises:
            DecryptionError: as `decrypt`.
            InvalidKeyError: what is wrapped is no key.
        """
        return Vault.from_key(
            self.decrypt_bytes(wrapped, context=context),
            max_bytes=self._max_bytes,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        first, *others = self.fingerprints
        also = f", also reads {', '.join(others)}" if others else ""
        return f"<Vault {first}{also}>"


def _codec(type_: Any) -> codecs.Codec:
    if type_ is None:
        return codecs.JSON
    return type_ if isinstance(type_, codecs.CODECS) else codecs.typed(type_)


def _keyring(ring: list[Key | str]) -> Keyring:
    """Make a ring of what `read_key` returned, or raise its complaint."""
    for place, key in enumerate(ring, 1):
        if isinstance(key, str):
            which = f"key {place} of {len(ring)}: " if len(ring) > 1 else ""
            msg = f"{which}{key}; {_HOW_TO_MAKE_ONE}"
            raise InvalidKeyError(msg)
    if not ring:
        msg = f"a vault needs at least one key; {_HOW_TO_MAKE_ONE}"
        raise InvalidKeyError(msg)
    return Keyring(key for key in ring if isinstance(key, Key))

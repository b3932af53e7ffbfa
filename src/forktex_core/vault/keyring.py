# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The keys of a vault: the first seals, each unseals."""

from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken

from forktex_core.vault.errors import TamperedTokenError, UnknownKeyError, UnverifiedTokenError
from forktex_core.vault.keys import Context, Key, Part, Secretive, bind, encode_context
from forktex_core.vault.token import prefix_of, timestamp


class Keyring(Secretive):
    """Keys in order, each once. Immutable, and without any view on payloads, limits or clocks."""

    __slots__ = ("keys",)

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = {key.fingerprint: key for key in keys}

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The keys' fingerprints, the sealing one first."""
        return tuple(self.keys)

    @property
    def first(self) -> Key:
        """The key that seals."""
        return next(iter(self.keys.values()))

    def seal(self, data: bytes, at: int, bound: bytes | None, *, envelope: bool) -> str:
        """Seal bytes as of a time in seconds since 1970, in an encoded context or in none."""
        key = self.first
        token = key.for_context(bound).encrypt_at_time(data, at).decode()
        return prefix_of(key.fingerprint) + token if envelope else token

    def unseal(self, fingerprint: str | None, bare: str, bound: bytes | None) -> tuple[bytes, str]:
        """Open a split token; return its bytes and the fingerprint of the key that did.

        Raises:
            DecryptionError: no key opens it; the class and the message say why.
        """
        for key in self._candidates(fingerprint):
            data = _open(key.for_context(bound), bare)
            if data is not None:
                return data, key.fingerprint
        raise self._refusal(fingerprint, bare, bound=bound is not None)

    def derive(self, parts: tuple[Part, ...]) -> "Keyring":
        """Derive a tenant's ring, key by key."""
        context = encode_context(parts)
        return Keyring(Key(key.derive("tenant", context)) for key in self.keys.values())

    def index_keys(self, context: Context | None) -> list[tuple[str, bytes]]:
        """Return fingerprint and HMAC key of a blind index, key by key."""
        bound = bind(context) or b""
        return [(name, key.derive("index", bound)) for name, key in self.keys.items()]

    def joined(self, other: "Keyring") -> "Keyring":
        """Return the ring that unseals with the keys of both."""
        return Keyring([*self.keys.values(), *other.keys.values()])

    def _candidates(self, fingerprint: str | None) -> Iterable[Key]:
        if fingerprint is None:
            return self.keys.values()
        key = self.keys.get(fingerprint)
        return () if key is None else (key,)

    def _refusal(self, fingerprint: str | None, bare: str, *, bound: bool) -> UnverifiedTokenError:
        timestamp(bare)  # Raises when it is malformed, which is the better answer.
        known = self.fingerprints
        ours = f"this vault's keys are {', '.join(known)}"
        context = ", or made for another context" if bound else ", or bound to a context"
        mend = "if the key was rotated, give the former one too: Vault.from_keys([new, old])"
        if fingerprint is None:
            msg = f"unknown key or tampered{context}: no key verifies this token; {ours}; {mend}"
            return UnverifiedTokenError(msg, known=known)
        if fingerprint not in known:
            msg = f"unknown key {fingerprint}: {ours}; {mend}"
            return UnknownKeyError(msg, fingerprint=fingerprint, known=known)
        msg = f"tampered{context}: key {fingerprint} is known and doesn't verify this token"
        return TamperedTokenError(msg, known=known)


def _open(fernet: Fernet, bare: str) -> bytes | None:
    try:
        return fernet.decrypt(bare)
    except InvalidToken:
        return None

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Finding a row by an encrypted value: a keyed hash of it in a column of its own."""

import hmac
from collections.abc import Callable
from typing import Any, Self

from sqlalchemy import ClauseElement, ColumnElement, Dialect, Text
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator

from forktex_core.vault.columns import VaultSource, check_arguments, resolve
from forktex_core.vault.errors import NotSearchableError, PayloadError
from forktex_core.vault.keys import Context
from forktex_core.vault.payload import sanitized
from forktex_core.vault.vault import Vault

_DIGEST_BYTES = 16


class BlindDigest(str):
    """A digest as it is stored: ``<fingerprint of the key>:<32 hex digits>``."""

    __slots__ = ()


class BlindComparator(TypeDecorator.Comparator[str]):
    """Compares with the digests of a value, under each key of the vault."""

    def operate(self, op: operators.OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Allow equality, IN, IS NULL and other columns; refuse what needs an order or a part."""
        if op not in _EXACT:
            name = getattr(op, "__name__", str(op))
            msg = f"a BlindIndex only finds equal values, it can't answer {name}"
            raise NotSearchableError(msg)
        (value,) = other
        if value is None or isinstance(value, ClauseElement):
            return super().operate(op, value, **kwargs)
        index = self.type
        assert isinstance(index, BlindIndex)
        values = [value] if isinstance(value, str | bytes) else value
        digests = [digest for each in values for digest in index.digests(each)]
        return super().operate(_EXACT[op], digests, **kwargs)


_EXACT = {
    operators.eq: operators.in_op,
    operators.in_op: operators.in_op,
    operators.ne: operators.not_in_op,
    operators.not_in_op: operators.not_in_op,
    operators.is_: operators.is_,
    operators.is_not: operators.is_not,
}


class BlindIndex(TypeDecorator[str]):
    """A column that stores HMAC-SHA256 of what is assigned to it, cut to 128 bits.

    ``row.email_index = email`` writes the digest, ``Model.email_index == email`` compares digests
    (of every key of the vault, so that rows are found amid a rotation). What is read is the digest.
    Equal values show as equal: use it for values of many possibilities (an address, a number),
    never for ones that can be guessed through from their frequency (a sex, a status).

    Args:
        vault: as for `EncryptedJSON`. The HMAC key is derived from its keys, for this purpose only.
        normalize: applied to a value before it is hashed, such as `str.casefold`.
        context: separates indexes: equal values in two columns have different digests.
    """

    __module__ = "forktex_core.vault"
    impl = Text
    cache_ok = True
    comparator_factory = BlindComparator

    def __init__(
        self,
        vault: VaultSource,
        *,
        normalize: Callable[[str], str] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__()
        check_arguments(vault, context, "BlindIndex")
        self.vault = vault
        self.normalize = normalize
        self.context = tuple(context) if isinstance(context, list) else context

    def digest(self, value: str | bytes) -> BlindDigest:
        """Return the digest of a value under the vault's first key; a digest stays itself."""
        return self.digests(value)[0]

    def digests(self, value: str | bytes) -> list[BlindDigest]:
        """Return the digests of a value under each key of the vault."""
        return self.digests_of(resolve(self.vault, "BlindIndex"), value)

    def digests_of(self, vault: Vault, value: str | bytes) -> list[BlindDigest]:
        """Return the digests of a value under each key of another vault. For rotation."""
        if isinstance(value, BlindDigest):
            return [value]
        message: bytes = sanitized(self._message, value)
        return [
            BlindDigest(f"{name}:{hmac.digest(key, message, 'sha256')[:_DIGEST_BYTES].hex()}")
            for name, key in vault.keyring.index_keys(self.context)
        ]

    def _message(self, value: object) -> bytes:
        if isinstance(value, str):
            return (self.normalize(value) if self.normalize else value).encode()
        if isinstance(value, bytes):
            return value
        msg = f"a BlindIndex takes str or bytes, not {type(value).__name__}"
        raise PayloadError(msg)

    def process_bind_param(self, value: str | None, _: Dialect) -> str | None:
        """Hash a value; a digest passes as it is."""
        return None if value is None else str(self.digest(value))

    def process_result_value(self, value: str | None, _: Dialect) -> BlindDigest | None:
        """Mark what was read as a digest."""
        return None if value is None else BlindDigest(value)

    def __repr__(self) -> str:
        return "BlindIndex(None)"

    def __deepcopy__(self, memo: object) -> Self:
        return self

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Column types that encrypt on the way in and decrypt on the way out."""

from collections.abc import Callable
from typing import Any, NoReturn, Self, cast, overload

from sqlalchemy import ColumnElement, Dialect, Text
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator

from forktex_core.vault import payload as codecs
from forktex_core.vault.errors import NotSearchableError, VaultError
from forktex_core.vault.keys import Context, encode_context
from forktex_core.vault.vault import Vault

type VaultSource = Vault | Callable[[], Vault] | None
"""A vault, a function that returns the one to use now, or None (for migrations)."""


def resolve(source: object, owner: str) -> Vault:
    """Return the vault of a column type."""
    try:
        vault = source() if callable(source) else source
    except Exception as exc:
        msg = f"the function that {owner} was given raised {type(exc).__name__} instead of a Vault"
        raise VaultError(msg) from exc
    if isinstance(vault, Vault):
        return vault
    if vault is None:
        msg = f"{owner}(None) is the form for migrations: it holds no vault and no values"
    else:
        msg = f"{owner} takes a Vault or a function that returns one, not {type(vault).__name__}"
    raise VaultError(msg)


def check_arguments(source: VaultSource, context: Context | None, owner: str) -> None:
    """Refuse at once what would fail at the first value."""
    if source is not None and not callable(source):
        resolve(source, owner)
    if context is not None:
        encode_context(context)


class EncryptedComparator[T](TypeDecorator.Comparator[T]):
    """Lets only NULL be asked for."""

    def operate(self, op: operators.OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Allow IS NULL and IS NOT NULL, refuse the rest with what to do instead."""
        # SQLAlchemy looks columns up in dicts, which compares a column with itself (annotated).
        is_itself = op is operators.eq and _same(other[0], self.expr)
        if is_itself or (op in _NULL_TESTS and other[0] is None):
            return super().operate(op, *other, **kwargs)
        raise _not_searchable(op)

    def reverse_operate(self, op: operators.OperatorType, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise _not_searchable(op)


def _same(other: object, column: ColumnElement[Any]) -> bool:
    return isinstance(other, ColumnElement) and hash(other) == hash(column)


_NULL_TESTS = (operators.is_, operators.is_not, operators.eq, operators.ne)


def _not_searchable(op: operators.OperatorType) -> NotSearchableError:
    name = getattr(op, "__name__", str(op))
    return NotSearchableError(
        f"an encrypted column can't be searched, compared or sorted ({name}): equal values have "
        "different tokens. Only IS NULL works; to find rows by a value, keep a BlindIndex of it "
        "in a column of its own"
    )


class Encrypted[T](TypeDecorator[T]):
    """What the three column types share; not for use by itself."""

    impl = Text
    cache_ok = True
    comparator_factory = EncryptedComparator
    codec: codecs.Codec

    def __init__(self, vault: VaultSource, *, context: Context | None = None) -> None:
        super().__init__()
        check_arguments(vault, context, type(self).__name__)
        self.vault = vault
        self.context = tuple(context) if isinstance(context, list) else context
        self.compress = False

    def process_bind_param(self, value: T | None, _: Dialect) -> str | None:
        """Encrypt; None is NULL."""
        if value is None:
            return None
        vault = resolve(self.vault, type(self).__name__)
        return vault.encrypt(
            value, self.codec, context=self.context, compress=self.compress, envelope=True
        )

    def process_result_value(self, value: str | None, _: Dialect) -> T | None:
        """Decrypt; NULL is None."""
        if value is None:
            return None
        vault = resolve(self.vault, type(self).__name__)
        return cast("T", vault.decrypt(value, self.codec, context=self.context))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(None)"

    def __deepcopy__(self, memo: object) -> Self:
        return self


class EncryptedJSON[T](Encrypted[T]):
    """JSON, or values of one type, encrypted in a ``TEXT`` column.

    Args:
        vault: the vault, or a function that returns the one to use now (a tenant's, or one that is
            configured after the models are imported). None is for migrations.
        type_: a pydantic model or any type that pydantic knows; without it any JSON value.
        context: binds the tokens to this place, such as ``("invoice", "payload")``. Written tokens
            keep the context for ever: changing it makes them unreadable.
        compress: gzip before encrypting; see `Vault.encrypt` for the risk. Reading needs no flag.

    None is NULL. In-place changes of the value are noticed with
    ``MutableDict.as_mutable(EncryptedJSON(vault))`` only.
    """

    __module__ = "forktex_core.vault"  # As Alembic writes it into migrations.
    cache_ok = True

    @overload
    def __init__(
        self: "EncryptedJSON[Any]",
        vault: VaultSource,
        type_: None = None,
        *,
        context: Context | None = None,
        compress: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        vault: VaultSource,
        type_: type[T],
        *,
        context: Context | None = None,
        compress: bool = False,
    ) -> None: ...
    def __init__(
        self,
        vault: VaultSource,
        type_: Any = None,
        *,
        context: Context | None = None,
        compress: bool = False,
    ) -> None:
        super().__init__(vault, context=context)
        self.type_ = type_
        self.compress = compress
        self.codec = codecs.JSON if type_ is None else codecs.typed(type_)


class EncryptedText(Encrypted[str]):
    """Text, encrypted in a ``TEXT`` column; arguments as for `EncryptedJSON`."""

    __module__ = "forktex_core.vault"
    cache_ok = True
    codec = codecs.TextCodec()

    def __init__(
        self, vault: VaultSource, *, context: Context | None = None, compress: bool = False
    ) -> None:
        super().__init__(vault, context=context)
        self.compress = compress


class EncryptedBytes(Encrypted[bytes]):
    """Bytes, encrypted in a ``TEXT`` column; arguments as for `EncryptedJSON`.

    There is no `compress`: bytes can begin like compressed ones, so reading couldn't tell.
    """

    __module__ = "forktex_core.vault"
    cache_ok = True
    codec = codecs.BytesCodec()

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Page cursors: opaque text that says after (or before) which row a page begins.

A cursor is `base64url(mac | json([query, backward, values]))`. `query` is a digest of the model,
the sort, the filters and the organisation: a cursor only fits its own query. The MAC is HMAC-SHA256
cut to 12 bytes; without a key of the service's own it finds damage, not forgery. So the values are
decoded by the types of the fields, and within what PostgreSQL can hold: whatever a client sends,
the worst answer is `CursorError`.
"""

import base64
import enum
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Float, SmallInteger
from sqlalchemy.types import TypeEngine

from forktex_core.db.errors import CursorError, InvalidValueError
from forktex_core.db.fields import python_type
from forktex_core.db.sorting import SortKey

_MAC_BYTES = 12
_DIGITS = 10_000  # PostgreSQL's numeric holds 131,072 before the point
_LONGEST = 65_536  # characters; a row of an index is far smaller
_DAMAGED = "the cursor is damaged; pass it back exactly as it came, or start again without one"


@dataclass(frozen=True)
class Cursor:
    """A position between two rows: behind the one with `values`, or before it if `backward`."""

    values: tuple[Any, ...]
    backward: bool


def query_digest(parts: Sequence[str]) -> str:
    """A short text that differs when one of `parts` does."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def check_sortable(keys: Sequence[SortKey]) -> None:
    """Raise `InvalidValueError` for a field that pages cannot be sorted by."""
    for key in keys:
        _codec(key)


def encode_cursor(cursor: Cursor, keys: Sequence[SortKey], query: str, key: bytes) -> str:
    """The cursor as text; `InvalidValueError` for a field that pages cannot be sorted by."""
    values = [
        None if value is None else _codec(each).encode(value)
        for each, value in zip(keys, cursor.values, strict=True)
    ]
    payload = json.dumps([query, cursor.backward, values], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(key, payload) + payload).rstrip(b"=").decode()


def decode_cursor(text: Any, keys: Sequence[SortKey], query: str, key: bytes) -> Cursor:
    """The cursor that `text` stands for; `CursorError` for anything else."""
    made_for, backward, values = _open(text, key)
    if made_for != query:
        raise CursorError(
            "the cursor belongs to a query with another sort, other filters or another "
            "organisation; start again without one"
        )
    if not isinstance(values, list) or len(values) != len(keys):
        raise CursorError(_DAMAGED)
    try:
        decoded = [_decode(each, value) for each, value in zip(keys, values, strict=True)]
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as exc:
        raise CursorError(_DAMAGED) from exc
    return Cursor(tuple(decoded), bool(backward))


def _decode(key: SortKey, value: Any) -> Any:
    if value is not None:
        return _codec(key).decode(value)
    if not key.nullable:
        raise ValueError("null in a field that has none")
    return None


def _open(text: Any, key: bytes) -> tuple[Any, Any, Any]:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise CursorError(_DAMAGED)
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(key, payload)):
            raise CursorError(_DAMAGED)
        query, backward, values = json.loads(payload)
    except (ValueError, TypeError, RecursionError) as exc:
        raise CursorError(_DAMAGED) from exc
    return query, backward, values


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:_MAC_BYTES]


@dataclass(frozen=True)
class _Codec:
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _codec(key: SortKey) -> _Codec:
    kind = key.attribute.type
    expected = python_type(kind)
    if expected is not None and issubclass(expected, enum.Enum):
        return _Codec(lambda value: value.name, expected.__members__.__getitem__)
    if expected in {float, Decimal} and (expected is float) != isinstance(kind, Float):
        expected = None  # what Python got is not exactly the value in the database
    if expected not in _MAKERS:
        raise InvalidValueError(
            f"{key.name} has the type {kind!r}, which pages cannot be sorted by; sort by another "
            "field, or use offset pages"
        )
    return _MAKERS[expected](kind)


def _int(kind: TypeEngine[Any]) -> _Codec:
    bits = 15 if isinstance(kind, SmallInteger) else 63 if isinstance(kind, BigInteger) else 31

    def decode(value: Any) -> int:
        if type(value) is not int or not -(1 << bits) <= value < 1 << bits:
            raise ValueError("no integer of this column")
        return value

    return _Codec(int, decode)


def _bool(_kind: TypeEngine[Any]) -> _Codec:
    return _Codec(bool, {True: True, False: False}.__getitem__)


def _str(kind: TypeEngine[Any]) -> _Codec:
    names = getattr(kind, "enums", None)

    def decode(value: str) -> str:
        if names is not None and value not in names:
            raise ValueError("no value of this enumeration")
        if b"\0" in value.encode():  # which also refuses lone surrogates
            raise ValueError("PostgreSQL has no NUL in text")
        return value

    return _Codec(str, decode)


def _decimal(_kind: TypeEngine[Any]) -> _Codec:
    def decode(value: str) -> Decimal:
        number = Decimal(value)
        if not number.is_finite() and value not in {"NaN", "Infinity", "-Infinity"}:
            raise ValueError("a NaN that PostgreSQL does not have")
        if number.is_finite() and not (abs(number.adjusted()) < _DIGITS > len(value)):
            raise ValueError("too large for numeric")
        return number

    return _Codec(str, decode)


def _float(_kind: TypeEngine[Any]) -> _Codec:
    return _Codec(lambda value: float(value).hex(), float.fromhex)


def _datetime(kind: Any) -> _Codec:
    def decode(value: str) -> datetime:
        moment = datetime.fromisoformat(value)
        if (moment.tzinfo is not None) != kind.timezone:
            raise ValueError("a time zone where the column has none, or none where it has")
        return moment.astimezone(UTC) if kind.timezone else moment

    return _Codec(datetime.isoformat, decode)


def _time(kind: Any) -> _Codec:
    def decode(value: str) -> time:
        moment = time.fromisoformat(value)
        if (moment.tzinfo is not None) != kind.timezone:
            raise ValueError("a time zone where the column has none, or none where it has")
        return moment

    return _Codec(time.isoformat, decode)


def _timedelta(_kind: TypeEngine[Any]) -> _Codec:
    return _Codec(
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda value: timedelta(*value),
    )


def _bytes(_kind: TypeEngine[Any]) -> _Codec:
    return _Codec(lambda value: bytes(value).hex(), bytes.fromhex)


_MAKERS: dict[type | None, Callable[[Any], _Codec]] = {
    int: _int,
    bool: _bool,
    str: _str,
    float: _float,
    Decimal: _decimal,
    UUID: lambda _: _Codec(str, UUID),
    datetime: _datetime,
    date: lambda _: _Codec(date.isoformat, date.fromisoformat),
    time: _time,
    timedelta: _timedelta,
    bytes: _bytes,
}

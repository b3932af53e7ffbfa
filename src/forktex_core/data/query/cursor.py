# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Page cursors: opaque text that says behind which row a page begins.

A cursor is base64url(mac | json([query, keys, id])). `query` is a digest of the tenant, the source,
the filter and the order, so that a cursor fits its own query and no other. The MAC is HMAC-SHA256
cut to 12 bytes; without a key of the service's own it finds damage, not forgery, and what is
decoded is checked against the fields' kinds in either case.
"""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from forktex_core.data.errors import CursorError
from forktex_core.data.query.order import OrderKey, Position

_MAC_BYTES = 12
_LONGEST = 8_192
_DAMAGED = "it is damaged; pass it back exactly as it came, or start again without one"


def digest(*parts: Any) -> str:
    """A short text that differs when one of the parts does."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def encode(position: Position, query: str, key: bytes) -> str:
    """The position as a cursor of the query."""
    keys = [_plain(each) for each in position.keys]
    payload = json.dumps([query, keys, str(position.id)], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(key, payload) + payload).rstrip(b"=").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str) else str(value)


def decode(text: Any, keys: tuple[OrderKey, ...], query: str, key: bytes) -> Position:
    """The position that a cursor stands for; raises `CursorError` for everything else."""
    made_for, values, row = _open(text, key)
    if made_for != query:
        raise CursorError(
            "it belongs to another query, register or tenant (or the register was changed); start "
            "again without one"
        )
    try:
        read = tuple(_value(each, value) for each, value in zip(keys, values, strict=True))
        return Position(read, UUID(row))
    except (ValueError, TypeError, ArithmeticError, AttributeError) as exc:
        raise CursorError(_DAMAGED) from exc


def _value(key: OrderKey, value: Any) -> Any:
    if value is None:
        if not key.nullable:
            raise ValueError("null where there is none")
        return None
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("no text")
    kind = key.field.type.kind
    if kind == "number":
        number = Decimal(value)
        if not number.is_finite() or abs(number.adjusted()) > 60:
            raise ValueError("no number of ours")
        return number
    if kind == "moment":
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment
    if kind == "uuid":
        return UUID(value)
    value.encode()  # half a character has no bytes
    return value


def _open(text: Any, key: bytes) -> tuple[Any, Any, Any]:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise CursorError(_DAMAGED)
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(key, payload)):
            raise CursorError(_DAMAGED)
        query, values, row = json.loads(payload)
    except (ValueError, TypeError, RecursionError) as exc:
        raise CursorError(_DAMAGED) from exc
    return query, values, row


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:_MAC_BYTES]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where a page ends, as a text that callers hand back unread.

A cursor holds the last row's place in the order and a digest of the query, so that one of another
query, or one that was tampered with, is refused instead of giving a wrong page.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from forktex_core.flow.errors import QueryError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode(query: str, at: datetime, run_id: UUID) -> str:
    """Return the cursor behind a row.

    Args:
        query: the text of filter and order.
        at: the row's time in the order.
        run_id: the row's id, which decides between equal times.
    """
    content = json.dumps([_digest(query), (at - _EPOCH) // _MICROSECOND, run_id.hex])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode(query: str, cursor: str) -> tuple[datetime, UUID]:
    """Return the place that a cursor of this query stands for; raise QueryError for another one."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        digest, microseconds, run = content
        place = _EPOCH + timedelta(microseconds=int(microseconds)), UUID(hex=run)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise QueryError(
            "the cursor is malformed: hand back what a page gave as `next`, unchanged, or none to "
            "begin at the first page"
        ) from error
    if digest != _digest(query):
        raise QueryError(
            "the cursor belongs to another query: filter and order must be those of the page "
            "that gave it"
        )
    return place


def _digest(query: str) -> str:
    return hashlib.blake2s(query.encode(), digest_size=6).hexdigest()

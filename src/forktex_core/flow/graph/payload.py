# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What happens to the payload of a graph's run: signals and errors that go into it."""

from typing import Any

from forktex_core.flow.errors import record_error

RECEIPT = "$receipt"


def opened(sent: Any) -> tuple[str | None, Any]:
    """Return the receipt that a signal's sender asked for, if any, and what the signal brings."""
    if isinstance(sent, dict) and set(sent) == {RECEIPT, "payload"}:
        return str(sent[RECEIPT]), sent["payload"]
    return None, sent


def with_error(payload: Any, state: str, error: Exception) -> Any:
    """Return a payload that tells of an error; one that is no object is kept as it is."""
    record = record_error(error)
    told = {"state": state, "type": record["type"], "message": record["message"]}
    return {**payload, "error": told} if isinstance(payload, dict) else payload


def merge(payload: Any, sent: Any) -> Any:
    """Merge a signal's payload into the run's: dict into dict, shallow; None changes nothing."""
    if sent is None:
        return payload
    if isinstance(payload, dict) and isinstance(sent, dict):
        return {**payload, **sent}
    return sent

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Bucket policies: everybody may read, or write, what begins with a prefix.

Object ACLs are refused by new AWS buckets and ignored by most other stores; a bucket policy on a
prefix works on all of them. Statements that are not ours stay untouched.
"""

import json
from typing import Any

from .access import PublicAccess

_ACTIONS = {PublicAccess.read: "s3:GetObject", PublicAccess.write: "s3:PutObject"}


def changed(document: str | None, *, bucket: str, prefix: str, access: PublicAccess) -> str | None:
    """Return the policy with the prefix opened as asked, or closed; None if nothing is left."""
    policy: dict[str, Any] = (
        json.loads(document) if document else {"Version": "2012-10-17", "Statement": []}
    )
    _require_literal(prefix)
    resource = f"arn:aws:s3:::{bucket}/{prefix}*"
    kept = [statement for statement in _statements(policy) if not _is_ours(statement, resource)]
    if access is not PublicAccess.none:
        kept.append(
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": [_ACTIONS[access]],
                "Resource": [resource],
            }
        )
    return json.dumps({**policy, "Statement": kept}) if kept else None


def _require_literal(prefix: str) -> None:
    """Refuse what a policy would take for more than it says."""
    if any(sign in prefix for sign in ("*", "?", "${")):
        raise ValueError(
            f"The prefix {prefix!r} holds a wildcard of bucket policies (*, ? or ${{), "
            "which would open more than that: choose another prefix."
        )


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found = policy.get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _is_ours(statement: dict[str, Any], resource: str) -> bool:
    """Recognise what `changed` wrote, in whichever form the store gives it back."""
    return (
        statement.get("Effect") == "Allow"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and _only(statement.get("Resource")) == resource
        and _only(statement.get("Action")) in _ACTIONS.values()
        and not statement.get("Condition")
    )


def _only(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value

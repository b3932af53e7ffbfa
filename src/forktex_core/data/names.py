# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Names and labels that end users give: what is allowed, and what is said about the rest.

A name is an identifier of the API and of queries, never of SQL: tables and columns of the database
are named by numbers. `__` divides a field from its operator in a query, so no name contains it.
"""

import re
import unicodedata

from forktex_core.data.errors import Problem

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_NAME = 63
_LONGEST_LABEL = 200
RESERVED = frozenset(
    "id revision created_at updated_at created_by updated_by archived_at and or not".split()
)


def name_problems(name: object, path: str) -> list[Problem]:
    """Everything that is wrong with a register's or field's name."""
    if not isinstance(name, str):
        return [Problem(path, "name", f"a name is text, not {type(name).__name__}")]
    if len(name) > _LONGEST_NAME:
        return [Problem(path, "name", f"a name has at most {_LONGEST_NAME} characters")]
    if not _NAME.fullmatch(name):
        return [
            Problem(
                path,
                "name",
                f"{name!r} is no name: lower-case letters, digits and single underscores, "
                "beginning with a letter (the label is free)",
            )
        ]
    if name in RESERVED:
        return [Problem(path, "name", f"{name!r} is reserved; choose another name")]
    return []


def label_problems(label: object, path: str) -> list[Problem]:
    """Everything that is wrong with a label: free text of one line."""
    if not isinstance(label, str):
        return [Problem(path, "label", f"a label is text, not {type(label).__name__}")]
    if len(label) > _LONGEST_LABEL:
        return [Problem(path, "label", f"a label has at most {_LONGEST_LABEL} characters")]
    if any(unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in label):
        return [Problem(path, "label", "a label has no line breaks and no control characters")]
    return []

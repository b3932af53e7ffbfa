# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Statements for what a service opts in to: their names, of columns and roles, are put in when they
are run.
"""

import re
from functools import cache

from forktex_core.flow.store.sql import quote_identifier

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


@cache
def _parts() -> dict[str, str]:
    from importlib import resources  # it costs each import of the package, and few need it

    found: dict[str, str] = {}
    for file in ("columns.sql", "row_security.sql"):
        text = (resources.files(__package__) / file).read_text(encoding="utf-8")
        pieces = _NAME.split(text)[1:]
        for name, body in zip(pieces[::2], pieces[1::2], strict=True):
            found[name] = _COMMENT.sub("", body).strip()
    return found


def part(name: str, schema: str, **names: str) -> str:
    """Return a statement for tables in ``schema``. What is put in by name is SQL: quote it."""
    text = _parts()[name].replace("{schema}", quote_identifier(schema))
    for placeholder, value in names.items():
        text = text.replace("{" + placeholder + "}", value)
    return text

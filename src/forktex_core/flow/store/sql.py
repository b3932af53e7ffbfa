# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Reads the ``.sql`` files of the package: named queries and numbered migrations, with the schema's
name put in.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_MIGRATION = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One append-only step of the schema."""

    number: int
    name: str
    sql: str


def quote_identifier(name: str) -> str:
    """Quote ``name`` for use as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@cache
def queries(schema: str) -> dict[str, str]:
    """Return every named query by its name, for tables in ``schema``."""
    found: dict[str, str] = {}
    for file in _files("queries"):
        pieces = _NAME.split(file.read_text(encoding="utf-8"))[1:]
        for name, body in zip(pieces[::2], pieces[1::2], strict=True):
            found[name] = (
                _COMMENT.sub("", body).strip().replace("{schema}", quote_identifier(schema))
            )
    return found


def migrations(schema: str) -> list[Migration]:
    """Return the migrations in their order, for tables in ``schema``."""
    found = []
    for file in _files("migrations"):
        if match := _MIGRATION.match(file.name):
            text = file.read_text(encoding="utf-8").replace("{schema}", quote_identifier(schema))
            found.append(Migration(int(match[1]), match[2], text))
    return sorted(found, key=lambda m: m.number)


def _files(folder: str) -> list[Any]:
    """Return the files of a folder beside this one, by name."""
    from importlib import resources  # it imports zipfile, tempfile and more

    return sorted((resources.files(__package__) / folder).iterdir(), key=lambda file: file.name)

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

COLORS = {
    "pending": "cyan", "running": "blue", "waiting": "yellow", "paused": "magenta",
    "succeeded": "green", "failed": "red", "cancelled": "bright_black",
    "error": "red", "warning": "yellow", "note": "cyan",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value as JSON has it: moments in ISO 8601, durations in seconds, ids as text."""
    if is_dataclass(value) and not isinstance(value, type):
        derived = [name for name in ("duration", "halted", "well") if hasattr(type(value), name)]
        return {name: plain(getattr(value, name)) for name in (*_names(value), *derived)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    return _text(value)


def _names(value: Any) -> list[str]:
    return [f.name for f in fields(value)]


def _text(value: Any) -> str | float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_json(value: Any, *, line: bool = False) -> None:
    """Print a value as JSON: indented, or in one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=None if line else 1))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table; every cell is shown as it is, markup in it means nothing."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        cells = ["" if cell is None else str(cell) for cell in row]
        made.add_row(*(Text(printable(c), style=COLORS.get(c, "")) for c in cells))
    return made


def printable(text: str) -> str:
    """Return a text without characters that would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def show(*things: "RenderableType") -> None:
    """Print for people: in colours on a terminal, and without cutting where there is none."""
    from rich.console import Console

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=200)
    console.print(*things, sep="\n")


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a moment was, or how long it is until then."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return f"{_length(seconds)} ago" if seconds >= 0 else f"in {_length(-seconds)}"


def lasting(length: timedelta | None) -> str:
    """Return a duration in words."""
    return "" if length is None else _length(length.total_seconds())


def _length(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def shortened(value: Any, most: int = 80) -> str:
    """Return a value as JSON, cut to so many characters."""
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"

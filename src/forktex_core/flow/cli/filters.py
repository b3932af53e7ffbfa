# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The options that say which runs, and what flow.runs makes of them."""

import functools
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast, override

import click

from forktex_core.flow.inspect.filter import STATUSES, RunConditions

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in click 8.4 only
    """A moment: ISO 8601 (UTC when it has no zone), or how long ago it was."""

    name = "moment"

    @override
    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if match := _AGO.fullmatch(value):
                seconds = float(match[1]) * _UNITS[match[2]]
                return datetime.now(UTC) - timedelta(seconds=seconds)
            moment = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no moment: write 2026-11-24T17:00, or 90s, 15min, 2h, 7d for as "
                "long ago",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def metadata(pairs: Sequence[str]) -> dict[str, Any]:
    """Return what ``key=value`` pairs or JSON objects say; a value is JSON, or else a text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if pair.lstrip().startswith("{"):
            found |= _object(pair)
        elif not equals or not key:
            raise click.BadParameter(
                f"{pair!r} is neither KEY=VALUE nor a JSON object", param_hint="--metadata"
            )
        else:
            found[key] = _value(text)
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(text))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint="--metadata") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


_MOMENT = Moment()
_TIMES = [
    f"{what}-{end}" for what in ("created", "started", "finished") for end in ("since", "until")
]
_OPTIONS = [
    click.option("--workflow", multiple=True, help="Repeatable, as the next four are."),
    click.option("--version", type=int, multiple=True),
    click.option("--status", type=click.Choice(STATUSES), multiple=True),
    click.option("--queue", multiple=True),
    click.option("--key", multiple=True, help="On whose account it runs in its queue."),
    click.option("--metadata", multiple=True, help="KEY=VALUE, or a JSON object; repeatable."),
    click.option("--parent", type=click.UUID, help="The run that started them."),
    click.option("--roots", is_flag=True, help="Only runs that no other run started."),
    click.option("--schedule", help="The schedule that started them."),
    click.option("--worker", type=click.IntRange(min=1), help="The worker that executes them."),
    click.option("--error", "error_contains", help="A part of the error's type or text."),
    *(
        click.option(f"--{name}", type=_MOMENT, help="ISO 8601, or 15min, 2h, 7d ago.")
        for name in _TIMES
    ),
]


def which_runs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which runs; it gets RunConditions as ``conditions``."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        names = [*RunConditions.__annotations__]
        given = {name: options.pop(name) for name in names if name in options}
        given["metadata"] = metadata(given["metadata"])
        conditions = {name: value for name, value in given.items() if value not in (None, (), {})}
        if not conditions.get("roots"):
            conditions.pop("roots", None)
        return command(*args, conditions=conditions, **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped

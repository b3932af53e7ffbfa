# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""From a database's URL to the arguments of SQLAlchemy and asyncpg."""

import inspect
from typing import Any

import asyncpg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from forktex_core.db.errors import ConfigurationError

_DRIVERS = ("postgresql+asyncpg", "postgresql", "postgres")
# Parameters of libpq that asyncpg knows under another name.
_RENAMED = {"sslmode": "ssl", "connect_timeout": "timeout"}
_UNDERSTOOD = {*inspect.signature(asyncpg.connect).parameters, *_RENAMED, "application_name"}


def parse_url(url: str | URL) -> tuple[URL, dict[str, Any]]:
    """The SQLAlchemy URL, and the connection arguments that were in its query.

    Raises `ConfigurationError` for anything but PostgreSQL, and for parameters that asyncpg does
    not have.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError(
            "the database's URL cannot be read; it looks like "
            "postgresql+asyncpg://user:password@host:5432/name"
        ) from exc
    if parsed.drivername not in _DRIVERS:
        raise ConfigurationError(
            f"{parsed.drivername}:// is not supported; use postgresql+asyncpg:// (the only driver)"
        )
    _refuse_unknown(parsed)
    # host and port stay: SQLAlchemy reads a socket's folder and several hosts from them.
    kept = {key: parsed.query[key] for key in ("host", "port") if key in parsed.query}
    given = {key: _single(value) for key, value in parsed.query.items() if key not in kept}
    return parsed.set(drivername=_DRIVERS[0], query=kept), _connect_args(given)


def _refuse_unknown(url: URL) -> None:
    for parameter in url.query:
        if parameter not in _UNDERSTOOD:
            raise ConfigurationError(
                f"the parameter {parameter!r} of {address(url)} is not one of asyncpg; remove it, "
                "or pass what it stands for as connect_args= (TLS files: {'ssl': SSLContext})"
            )


def _single(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else value[-1]


def _connect_args(given: dict[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {_RENAMED.get(key, key): value for key, value in given.items()}
    name = arguments.pop("application_name", None)
    if name:
        arguments["server_settings"] = {"application_name": name}
    for number in ("timeout", "command_timeout"):
        if number in arguments:
            arguments[number] = float(arguments[number])
    return arguments


def address(url: URL) -> str:
    """The URL for messages: no password, no parameters."""
    return url.set(query={}).render_as_string(hide_password=True)

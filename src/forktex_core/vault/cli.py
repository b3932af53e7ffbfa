# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The command ``forktex-vault``. Keys come from files or a hidden prompt, never from arguments."""

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from getpass import GetPassWarning
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid
from sqlalchemy import MetaData, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from forktex_core.vault.errors import RotationError, VaultError
from forktex_core.vault.keys import Context, bind
from forktex_core.vault.payload import expand
from forktex_core.vault.report import RotationProgress, RotationReport
from forktex_core.vault.rotation import rotate_blobs
from forktex_core.vault.token import inspect_token
from forktex_core.vault.vault import MAX_BYTES, Vault

KEY_FILE = click.Path(exists=True, dir_okay=False, allow_dash=False, path_type=Path)


class Refusal(click.Group):
    """Shows the vault's errors as the command's own: one line, exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (VaultError, SQLAlchemyError, OSError) as exc:
            raise click.ClickException(_one_line(exc)) from exc


def _one_line(exc: Exception) -> str:
    """Leave out SQLAlchemy's statement and parameters."""
    return str(getattr(exc, "orig", None) or exc)


@click.group(cls=Refusal)
def main() -> None:
    """Encrypt, decrypt and inspect tokens; make keys and rotate them."""


@main.command("generate-key")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write to a new file that only its owner can read, instead of the terminal.",
)
def generate_key(output: Path | None) -> None:
    """Make a fresh key."""
    key = Vault.generate_key()
    if output is None:
        click.echo(key)
        return
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        msg = f"{output} exists; a key is never written over something"
        raise click.ClickException(msg) from None
    with os.fdopen(handle, "w") as file:
        file.write(f"{key}\n")
    click.echo(f"{output}: key {Vault.from_key(key).fingerprint}", err=True)


@main.command()
@click.argument("token")
def inspect(token: str) -> None:
    """Show a TOKEN's fingerprint and age ("-" reads it from the standard input).

    No key is needed, hence nothing is verified.
    """
    info = inspect_token(_argument(token))
    click.echo(f"key      {info.fingerprint or 'not named: a bare Fernet token'}")
    click.echo(f"created  {info.created.isoformat()}")
    click.echo(f"age      {info.age()}")
    click.echo(f"payload  at most {info.payload_bytes} bytes")


def _argument(token: str) -> str:
    if token == "-":  # noqa: S105 - a dash, for the standard input
        token = sys.stdin.read()
    return token.strip()


def _vault(files: tuple[Path, ...], what: str = "Key") -> Vault:
    """Read keys from their files, or ask for one without showing it."""
    return Vault.from_keys(map(_key_in, files) if files else [_asked(what)])


def _key_in(file: Path) -> bytes:
    key = file.read_bytes()
    try:
        Vault.from_key(key)
    except VaultError as exc:
        msg = f"{file}: {exc}"
        raise click.ClickException(msg) from None
    return key


def _asked(what: str) -> str:
    """Ask on the terminal, also when the standard input is a pipe; never where it would show."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)
        try:
            return str(click.prompt(what, hide_input=True, err=True))
        except GetPassWarning:
            msg = f"no terminal to ask for the {what.lower()} without showing it; give it in a file"
            raise click.UsageError(msg) from None


def _key_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--key-file",
        "key_files",
        type=KEY_FILE,
        multiple=True,
        help="A file with a key; asked for when not given. The first of several encrypts.",
    )(function)


def _context_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--context",
        "context",
        multiple=True,
        callback=_context,
        help="A part of the context; repeat it in order.",
    )(function)


def _context(_: click.Context, __: click.Parameter, parts: tuple[str, ...]) -> Context | None:
    try:
        bind(parts or None)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None
    return parts or None


@main.command()
@_key_option
@_context_option
@click.option("--text", is_flag=True, help="Take the input as text instead of JSON.")
@click.option("--envelope", is_flag=True, help="Put the key's fingerprint in front.")
@click.option("--input", "source", type=click.File("rb"), default="-", help="Default: stdin.")
def encrypt(
    key_files: tuple[Path, ...],
    context: Context | None,
    text: bool,
    envelope: bool,
    source: Any,
) -> None:
    """Encrypt JSON (or text) from the standard input or a file; print the token."""
    vault = _vault(key_files)
    data = source.read()
    if text:
        token = vault.encrypt_bytes(data, context=context, envelope=envelope)
    else:
        token = vault.encrypt(_json(data), context=context, envelope=envelope)
    click.echo(token)


def _json(data: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(data)
    msg = "the input isn't JSON; give --text to encrypt it as it is"
    raise click.ClickException(msg)


@main.command()
@_key_option
@_context_option
@click.argument("token")
def decrypt(key_files: tuple[Path, ...], context: Context | None, token: str) -> None:
    """Decrypt a TOKEN ("-" reads it from the standard input) and print what is in it."""
    vault = _vault(key_files)
    data = vault.decrypt_bytes(_argument(token), context=context)
    sys.stdout.buffer.write(expand(data, MAX_BYTES))
    click.echo()


@main.command()
@click.option("--database-url", required=True, help="postgresql://user:password@host/database")
@click.option("--table", "tables", multiple=True, required=True, help="[schema.]table; repeatable.")
@click.option("--column", "columns", multiple=True, required=True, help="One for each --table.")
@click.option("--old-key-file", "old_files", type=KEY_FILE, multiple=True)
@click.option("--new-key-file", "new_files", type=KEY_FILE, multiple=True)
@_context_option
@click.option("--batch-size", default=500, show_default=True, type=click.IntRange(1))
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds for locked rows.",
)
@click.option("--skip-corrupt", is_flag=True, help="Report rows that don't decrypt, and go on.")
@click.option("--dry-run", is_flag=True, help="Count what is on which key; change nothing.")
def rotate(
    *,
    database_url: str,
    tables: tuple[str, ...],
    columns: tuple[str, ...],
    old_files: tuple[Path, ...],
    new_files: tuple[Path, ...],
    context: Context | None,
    skip_corrupt: bool,
    **options: Any,
) -> None:
    """Re-encrypt columns with the new key while the service runs.

    Let the service read with both keys first. May be interrupted and run again at any time. Tables
    with a BlindIndex, and tokens bound to their row, are rotated from Python (rotate_blobs).
    """
    if len(tables) != len(columns):
        msg = f"{len(tables)} --table and {len(columns)} --column: give one column for each table"
        raise click.UsageError(msg)
    options |= {
        "old": _vault(old_files, "Old key"),
        "new": _vault(new_files, "New key"),
        "context": context,
        "on_corrupt": "skip" if skip_corrupt else "raise",
    }
    asyncio.run(_rotate_all(database_url, list(zip(tables, columns, strict=True)), options))


async def _rotate_all(url: str, targets: list[tuple[str, str]], options: dict[str, Any]) -> None:
    console = Console(stderr=True)
    engine = _engine(url)
    try:
        for table, column in targets:
            try:
                report = await _rotate(engine, table, column, options, console)
            except RotationError as exc:
                _show(exc.report, Console(), dry_run=options["dry_run"])
                raise
            except ValueError as exc:  # No such column, no primary key, a binary column.
                raise click.ClickException(str(exc)) from exc
            _show(report, Console(), dry_run=options["dry_run"])
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        msg = "--database-url isn't a URL such as postgresql://user:password@host/database"
        raise click.UsageError(msg) from None
    if parsed.get_backend_name() not in {"postgres", "postgresql"}:
        msg = f"rotation is for PostgreSQL (postgresql://…), not for {parsed.get_backend_name()}"
        raise click.UsageError(msg)
    parsed = parsed.set(drivername="postgresql+asyncpg")
    return create_async_engine(parsed, hide_parameters=True)


async def _rotate(
    engine: AsyncEngine, table: str, column: str, options: dict[str, Any], console: Console
) -> RotationReport:
    schema, _, name = table.rpartition(".")
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(
                lambda sync: Table(
                    name, MetaData(), schema=schema or None, autoload_with=sync, resolve_fks=False
                )
            )
    except NoSuchTableError:
        msg = f"there is no table {table} in this database; a schema is named as schema.table"
        raise click.ClickException(msg) from None
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(f"{table}.{column}", total=None)

        def advance(progress: RotationProgress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        report = await rotate_blobs(
            async_sessionmaker(engine), table=found, column=column, progress=advance, **options
        )
        bar.update(task, total=bar.tasks[task].completed)
        return report


def _show(report: RotationReport, console: Console, *, dry_run: bool) -> None:
    console.print(f"{report.table}.{report.column}, as found:", markup=False, soft_wrap=True)
    grid = Grid("key", "rows")
    for fingerprint, rows in sorted(report.keys.items()):
        grid.add_row(fingerprint, str(rows))
    console.print(grid)
    left = "to rotate" if dry_run else "left"
    console.print(
        f"{report.rotated} rotated, {report.remaining} {left}, {report.corrupt_count} corrupt"
    )
    for row in report.corrupt:
        console.print(f"corrupt: {row}", style="red", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()

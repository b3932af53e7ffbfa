# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Moving a column of tokens to a new key while the service runs.

The protocol, with *left* for "not on the new key", which the envelope tells in SQL:

1. A pass walks over the rows that are left by primary key, in batches. A batch locks its rows with
   SKIP LOCKED, re-encrypts what it read, writes it and ends: with a session factory each batch is a
   transaction of its own. Between lock and commit nobody else can write these rows, and before the
   lock nothing was read: no update is lost, whichever key it was written with. Rows that others
   hold are left for the next pass, so rotation waits for no lock, can't deadlock, and several
   rotations share the work.
2. A survey reads what is left, without locks. Rows that neither vault can decrypt are corrupt. If
   nothing else is left, the rotation is verified and over; otherwise another pass follows, until
   `patience` runs out.

The state of a rotation is in the rows themselves: after a crash one calls it again.

Memory is that of one batch. Nothing of it outlives the function that handled it, and its values are
parameters, never parts of a statement: statements are cyclic, so what is in them lingers.
"""

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, Update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from forktex_core.vault import payload as codecs
from forktex_core.vault.blobs import BARE, Blobs, Extract, Fresh
from forktex_core.vault.columns import Encrypted
from forktex_core.vault.errors import RotationError, VaultError
from forktex_core.vault.keyring import Keyring
from forktex_core.vault.keys import Context, bind
from forktex_core.vault.report import CorruptRow, RotationProgress, RotationReport
from forktex_core.vault.token import split, timestamp
from forktex_core.vault.vault import Vault

type Sessions = (
    AsyncSession
    | async_scoped_session[Any]
    | Callable[[], AbstractAsyncContextManager[AsyncSession]]
)
type RowContext = Context | Callable[[Mapping[str, Any]], Context]
type OnProgress = Callable[[RotationProgress], Awaitable[None] | None]

BATCH_BYTES = 16_777_216
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


async def rotate_blobs(
    session: Sessions,
    *,
    table: Any,
    column: str,
    old: Vault,
    new: Vault,
    context: RowContext | None = None,
    where: ColumnElement[bool] | None = None,
    index: Mapping[str, Extract] | None = None,
    batch_size: int = 500,
    on_corrupt: Literal["raise", "skip"] = "raise",
    patience: float = 60.0,
    progress: OnProgress | None = None,
    dry_run: bool = False,
) -> RotationReport:
    """Re-encrypt a column with the first key of `new`, while the service reads and writes it.

    Readers must know the new key before this starts: deploy ``Vault.from_keys([old, new])``, then
    ``from_keys([new, old])``, then rotate, then drop the old key.

    Args:
        session: a session (all in the caller's transaction, which the caller commits) or a factory
            such as `async_sessionmaker` (each batch commits by itself: for large tables).
        table: mapped class or Core table; in PostgreSQL.
        column: attribute or column that holds tokens, as text or as a JSON string; bare tokens
            become enveloped ones.
        old: decrypts what is stored.
        new: encrypts, with its first key, and decrypts as well. Payloads and tokens' times stay.
        context: the tokens' context; for tokens that are bound to their row, a function of the
            primary key by column name. By default the column type's own.
        where: rotate only these rows, such as one tenant's.
        index: for each `BlindIndex` column that belongs to the payload, a function of the decoded
            payload that returns the value to index (or None): the digests move to the new key, too.
        batch_size: rows per batch at most. Where rows are large, a batch has fewer, so that its
            tokens (of the longest that there is at the start) stay below 16 MiB: memory doesn't
            grow with the table.
        on_corrupt: stop at a row that can't be decrypted (after its batch is written), or report it
            and go on.
        patience: seconds, after the first pass, to go on for rows that stay locked or come back on
            the old key.
        progress: called after each batch.
        dry_run: count what is on which key, change and lock nothing.

    Returns:
        The report. Unless it was a dry run, nothing readable is left on another key.

    Raises:
        RotationError: a corrupt row, rows left after `patience`, or the database failed. Its
            `report` says how far it came; calling again goes on from there.
        ValueError: no such column, no primary key, or `batch_size` below 1.
    """
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1"
        raise ValueError(msg)
    blobs = Blobs.of(table, column, where, index or {})
    if context is None and isinstance(blobs.column.type, Encrypted):
        context = blobs.column.type.context
    rotation = _Rotation(
        sessions=session,
        blobs=blobs,
        new=new,
        reader=old.keyring.joined(new.keyring),
        context=context,
        batch_size=batch_size,
        fatal=on_corrupt == "raise",
        dry=dry_run,
        patience=patience,
        progress=progress,
        report=RotationReport(blobs.table.fullname, blobs.column.name),
    )
    try:
        await (rotation.dry_run() if dry_run else rotation.run())
    except (SQLAlchemyError, OSError) as exc:
        raise rotation.stopped(f"the database failed: {getattr(exc, 'orig', None) or exc}") from exc
    return rotation.report


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """A row that was decrypted; no repr, since it holds plaintext."""

    key: tuple[Any, ...]
    text: str
    bare: bool
    fingerprint: str
    data: bytes
    created: int
    bound: bytes | None
    digests: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is kept of a batch: where it ended, how many rows it had, and what went wrong."""

    last: tuple[Any, ...]
    rows: int
    written: int
    corrupt: list[CorruptRow]


@dataclass(slots=True)
class _Rotation:
    sessions: Sessions
    blobs: Blobs
    new: Vault
    reader: Keyring
    context: RowContext | None
    batch_size: int
    fatal: bool
    dry: bool
    patience: float
    progress: OnProgress | None
    report: RotationReport
    total: int = 0
    done: int = 0
    pages: dict[tuple[bool, bool], Select[Any]] = field(init=False)
    replace: Update = field(init=False)

    def __post_init__(self) -> None:
        """Build the statements once: a batch only brings their parameters."""
        flags = [(first, lock) for first in (True, False) for lock in (True, False)]
        self.replace = self.blobs.replace()
        self.pages = {
            (first, lock): self.blobs.page(self.new.fingerprint, first=first, lock=lock)
            for first, lock in flags
        }

    async def run(self) -> None:
        """Pass and survey until only corrupt rows are left."""
        await self._census()
        pause, deadline = _FIRST_PAUSE, None
        while True:
            rotated = self.report.rotated
            await self._pass()
            await self._survey()
            if not self.report.remaining:
                return
            deadline = deadline or time.monotonic() + self.patience
            if time.monotonic() >= deadline:
                raise self.stopped(
                    f"{self.report.remaining} rows stayed locked by others, or something still "
                    f"writes with the old key, for {self.patience:g} s"
                )
            await asyncio.sleep(pause)
            idle = self.report.rotated == rotated
            pause = min(pause * 2, _LONGEST_PAUSE) if idle else _FIRST_PAUSE

    async def dry_run(self) -> None:
        """Count by key; bare tokens are tried with each."""
        await self._census()
        await self._survey()

    def stopped(self, reason: str) -> RotationError:
        """Return the error for a rotation that ends early."""
        report = self.report
        return RotationError(
            f"rotation of {report.table}.{report.column} stopped: {reason}. {report.rotated} rows "
            "were rotated and stay so when committed; call it again to go on",
            report=report,
        )

    async def _census(self) -> None:
        async with self._transaction() as session:
            counted = await session.execute(self.blobs.census())
            self.report.keys = {row[0]: row[1] for row in counted}
            left = await session.execute(self.blobs.measure_left(self.new.fingerprint))
            self.total, longest = left.one()
        self.batch_size = min(self.batch_size, max(1, BATCH_BYTES // (longest or 1)))

    async def _pass(self) -> None:
        after: tuple[Any, ...] | None = None
        while batch := await self._rotate_batch(after):
            after = batch.last
            self.report.rotated += batch.written
            await self._tell(batch.rows)
            self._stop_at(batch.corrupt)

    async def _rotate_batch(self, after: tuple[Any, ...] | None) -> "_Batch | None":
        written = 0
        async with self._transaction() as session:
            rows = await self._page(session, after, lock=True)
            opened, corrupt = await asyncio.to_thread(self._open, rows)
            if opened:
                arrays = self.blobs.arrays(await asyncio.to_thread(self._renew, opened))
                written = len((await session.execute(self.replace, arrays)).all())
        return _Batch(self.blobs.key_of(rows[-1]), len(rows), written, corrupt) if rows else None

    async def _survey(self) -> None:
        """Read what is left without locking it, and tell corrupt rows from the others."""
        after: tuple[Any, ...] | None = None
        self.report.remaining = 0
        self.report.forget_corrupt()
        while batch := await self._survey_batch(after):
            after = batch.last
            for row in batch.corrupt:
                self.report.add_corrupt(row)
            if self.dry:
                await self._tell(batch.rows)
            else:
                self._stop_at(batch.corrupt)

    async def _survey_batch(self, after: tuple[Any, ...] | None) -> "_Batch | None":
        async with self._transaction() as session:
            rows = await self._page(session, after, lock=False)
        opened, corrupt = await asyncio.to_thread(self._open, rows)
        self.report.remaining += len(opened)
        if self.dry:
            self._count_bare(opened)
        return _Batch(self.blobs.key_of(rows[-1]), len(rows), 0, corrupt) if rows else None

    async def _page(
        self, session: AsyncSession, after: tuple[Any, ...] | None, *, lock: bool
    ) -> list[Row[Any]]:
        turn = self.blobs.turn(after, self.batch_size)
        return list((await session.execute(self.pages[after is None, lock], turn)).all())

    def _open(self, rows: list[Row[Any]]) -> tuple[list[_Opened], list[CorruptRow]]:
        opened, corrupt = [], []
        for row in rows:
            key = self.blobs.key_of(row)
            try:
                opened.append(self._open_row(key, row[-1]))
            except VaultError as exc:
                corrupt.append(CorruptRow(self._named(key), str(exc)))
        return opened, corrupt

    def _open_row(self, key: tuple[Any, ...], text: str) -> _Opened:
        fingerprint, bare = split(text)
        context = self.context(self._named(key)) if callable(self.context) else self.context
        bound = bind(context)
        data, opened_by = self.reader.unseal(fingerprint, bare, bound)
        return _Opened(
            key=key,
            text=text,
            bare=fingerprint is None,
            fingerprint=opened_by,
            data=data,
            created=timestamp(bare),
            bound=bound,
            digests=self._digests(data),
        )

    def _digests(self, data: bytes) -> tuple[str | None, ...]:
        if not self.blobs.indexes:
            return ()
        stored = self.blobs.column.type
        codec = stored.codec if isinstance(stored, Encrypted) else codecs.JSON
        payload = codecs.read(codec, data, sys.maxsize - 1)
        return tuple(index.digest(self.new, payload) for index in self.blobs.indexes)

    def _renew(self, rows: list[_Opened]) -> list[Fresh]:
        return [
            Fresh(
                key=row.key,
                was=row.text,
                becomes=self.new.keyring.seal(row.data, row.created, row.bound, envelope=True),
                digests=row.digests,
            )
            for row in rows
        ]

    def _count_bare(self, opened: list[_Opened]) -> None:
        keys = self.report.keys
        for row in opened:
            if row.bare:
                keys[BARE] = keys.get(BARE, 0) - 1
                keys[row.fingerprint] = keys.get(row.fingerprint, 0) + 1
        if keys.get(BARE, 1) <= 0:
            del keys[BARE]

    def _named(self, key: tuple[Any, ...]) -> dict[str, Any]:
        return {c.name: value for c, value in zip(self.blobs.key, key, strict=True)}

    def _stop_at(self, corrupt: list[CorruptRow]) -> None:
        if corrupt and self.fatal:
            if not self.report.corrupt:
                for row in corrupt:
                    self.report.add_corrupt(row)
            raise self.stopped(
                f"row {corrupt[0]}. Mend or delete that row, or skip such rows "
                "(on_corrupt='skip', --skip-corrupt)"
            )

    async def _tell(self, rows: int) -> None:
        self.done += rows
        if self.progress is None:
            return
        told = self.progress(RotationProgress(self.done, max(self.total, self.done)))
        if inspect.isawaitable(told):
            await told

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncSession]:
        if not callable(self.sessions) or isinstance(self.sessions, async_scoped_session):
            await self.sessions.flush()
            yield self.sessions  # type: ignore[misc]
            return
        async with self.sessions() as session:
            yield session
            await session.commit()

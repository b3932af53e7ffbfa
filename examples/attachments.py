# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Files that belong to rows: `db` keeps what is known of a file, `storage` its bytes.

A transaction can't span both, so the order matters. The bytes are stored first, under a key that
nothing had before, and the row names them when it commits. After that commit the files that it
replaced are deleted; after a rollback those that it would have named. Between the two a crash
leaves a file without a row, never a row without its file: `sweep` finds the former.

python examples/attachments.py postgresql+asyncpg://… [s3://bucket KEY SECRET URL]
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from forktex_core.db import BaseDBModel, close_engine, get_engine, get_session, init_engine, uuid7
from forktex_core.storage import S3Credentials, SignedURL, StorageClient, safe_name
from forktex_core.storage.sources import Source


class AttachmentMixin:
    """What a row knows of its file; without one, `attachment_key` is None."""

    attachment_key: Mapped[str | None] = mapped_column(unique=True)
    attachment_name: Mapped[str | None]
    attachment_type: Mapped[str | None]
    attachment_size: Mapped[int | None]


class Receipt(AttachmentMixin, BaseDBModel):
    """A model of the service."""

    __tablename__ = "receipt"
    number: Mapped[str]


class Attachments:
    """What happened to files in one transaction; see `attachments`."""

    def __init__(self, storage: StorageClient) -> None:
        self._storage = storage
        self.stored: list[str] = []
        self.replaced: list[str] = []

    async def attach(self, row: AttachmentMixin, filename: str, body: Source) -> None:
        """Store a file and let the row name it instead of the one that it had."""
        key = f"attachments/{uuid7()}/{safe_name(filename)}"
        result = await self._storage.put(key, body, if_none_match="*")
        self.stored.append(key)
        self.detach(row)
        row.attachment_key, row.attachment_name = key, filename
        row.attachment_type, row.attachment_size = result.content_type, result.size

    def detach(self, row: AttachmentMixin) -> None:
        """Take the row's file away, if it has one; for a row that is deleted, too."""
        if row.attachment_key is not None:
            self.replaced.append(row.attachment_key)
        row.attachment_key = row.attachment_name = row.attachment_type = None
        row.attachment_size = None


@contextlib.asynccontextmanager
async def attachments(storage: StorageClient) -> AsyncIterator[Attachments]:
    """Stand around a session: what the session's end decides is carried out on the files."""
    files = Attachments(storage)
    try:
        yield files
    except BaseException:
        await storage.delete_many(files.stored)
        raise
    await storage.delete_many(files.replaced)


async def link(storage: StorageClient, row: AttachmentMixin, ttl_seconds: int = 600) -> SignedURL:
    """A URL under which a browser saves the row's file by the name that its user gave it."""
    if row.attachment_key is None:
        raise LookupError("The row has no file.")
    return await storage.signed_url(
        row.attachment_key, ttl_seconds=ttl_seconds, filename=row.attachment_name
    )


async def sweep(
    session: AsyncSession, storage: StorageClient, *, older_than: timedelta = timedelta(days=1)
) -> int:
    """Delete files that no row names, and that no open transaction can be about to name."""
    limit = datetime.now(UTC) - older_than
    old = [info.key async for info in storage.list("attachments/") if info.last_modified < limit]
    named = await session.scalars(
        select(Receipt.attachment_key).where(Receipt.attachment_key.in_(old))
    )
    orphans = set(old) - set(named)
    await storage.delete_many(orphans)
    return len(orphans)


async def main(url: str, storage: StorageClient) -> None:
    """Attach a file, replace it, and fail to replace it again."""
    init_engine(url)
    async with get_engine().begin() as connection:
        await connection.run_sync(BaseDBModel.metadata.create_all)
    await storage.create_bucket()
    async with attachments(storage) as files, get_session() as session:
        receipt = Receipt(number="R-1")
        session.add(receipt)
        await files.attach(receipt, "draft.pdf", b"%PDF-1.7 draft")
    async with attachments(storage) as files, get_session() as session:
        receipt = (await session.scalars(select(Receipt))).one()
        await files.attach(receipt, "Beleg März.pdf", b"%PDF-1.7 final")
    with contextlib.suppress(RuntimeError):
        async with attachments(storage) as files, get_session() as session:
            receipt = (await session.scalars(select(Receipt))).one()
            await files.attach(receipt, "never.pdf", b"%PDF-1.7 never")
            raise RuntimeError("rolled back")
    async with get_session() as session:
        receipt = (await session.scalars(select(Receipt))).one()
        body = await storage.get(receipt.attachment_key or "")
        left = [info.key async for info in storage.list("attachments/")]
        print(f"{receipt.attachment_name} ({receipt.attachment_type}): {body.decode()}")
        print(f"files left: {len(left)}, swept: {await sweep(session, storage)}")
    await close_engine()


async def run(url: str, endpoint: str = "memory://files", *account: str) -> None:
    """In memory, or on the S3 server that the command line names."""
    where = (
        {"credentials": S3Credentials(*account[:2]), "endpoint_url": account[2]} if account else {}
    )
    async with StorageClient(endpoint, **where) as storage:  # type: ignore[arg-type]  # one of two
        await main(url, storage)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

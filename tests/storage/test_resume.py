# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Uploads of files that are gone on with where they were interrupted."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from forktex_core.storage import StorageClient, Unsupported
from tests.storage.gateway import gateway
from tests.storage.servers import S3

MIB = 1024 * 1024
PART = 5 * MIB


class Interrupted(Exception):
    """The process was told to stop."""


def stop_after(size: int) -> Callable[[int, int], None]:
    """A progress callback that raises when so much was taken up."""

    def progress(done: int, total: int) -> None:
        if done >= size:
            raise Interrupted

    return progress


async def interrupt(store: StorageClient, path: Path, size: int) -> None:
    """Upload that much of a file, leaving its parts."""
    with pytest.raises(Interrupted):
        await store.upload_file(
            path,
            "f.bin",
            resume=True,
            part_size=PART,
            progress=stop_after(size),
            metadata={"a": "1"},
        )
    assert not await store.exists("f.bin")


async def test_an_interrupted_upload_is_finished(store: StorageClient, tmp_path: Path) -> None:
    """The second call makes the whole object, with the attributes of the first; no part is left."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(28 * MIB + 5))
    await interrupt(store, path, 20 * MIB)
    result = await store.upload_file(
        path, "f.bin", resume=True, part_size=PART, metadata={"a": "1"}
    )
    assert result.size == 28 * MIB + 5
    assert await store.get("f.bin") == path.read_bytes()
    assert dict((await store.head("f.bin")).metadata) == {"a": "1"}
    try:
        assert await store.cleanup_uploads(older_than=timedelta(0)) == 0
    except Unsupported:
        assert "az" in repr(store)


async def test_a_file_that_changed_meanwhile(store: StorageClient, tmp_path: Path) -> None:
    """What is stored is the file as it is now, whatever was sent of it before."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(28 * MIB))
    await interrupt(store, path, 20 * MIB)
    path.write_bytes(os.urandom(7 * MIB) + path.read_bytes()[7 * MIB : 18 * MIB])
    await store.upload_file(path, "f.bin", resume=True, part_size=PART)
    assert await store.get("f.bin") == path.read_bytes()


async def test_parts_that_are_there_are_not_sent_again(s3: S3, bucket: str, tmp_path: Path) -> None:
    """A new client, as after a crash, sends only what the store lacks."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(28 * MIB))
    async with s3.client(bucket) as first:
        await interrupt(first, path, 22 * MIB)
    [begun] = s3.boto.list_multipart_uploads(Bucket=bucket)["Uploads"]
    there = s3.boto.list_parts(Bucket=bucket, Key="f.bin", UploadId=begun["UploadId"])["Parts"]
    async with gateway(s3.url) as gate, s3.client(bucket, endpoint_url=gate.url) as second:
        await second.upload_file(path, "f.bin", resume=True, part_size=PART)
        sent = sum(message.is_part for message in gate.seen)
        assert [part["PartNumber"] for part in there] == [1, 2, 3, 4]
        assert sent == 2
        assert await second.get("f.bin") == path.read_bytes()


async def test_without_resume_nothing_is_left(s3: S3, bucket: str, tmp_path: Path) -> None:
    """An upload that was not to be resumed discards its parts when it fails."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(28 * MIB))
    async with s3.client(bucket) as storage:
        with pytest.raises(Interrupted):
            await storage.upload_file(path, "f.bin", part_size=PART, progress=stop_after(20 * MIB))
    assert not s3.boto.list_multipart_uploads(Bucket=bucket).get("Uploads")

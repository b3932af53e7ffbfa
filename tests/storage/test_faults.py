# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What goes wrong on the way: slow and missing servers, cut connections, cancelled callers."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from forktex_core.storage import (
    AccessDenied,
    ClientClosed,
    InvalidKey,
    S3Credentials,
    StorageClient,
    StorageUnavailable,
    Transport,
    normalize_key,
    safe_name,
)
from tests.storage.servers import S3, SeaweedFS
from tests.waiting import eventually

MIB = 1024 * 1024
QUICK = Transport(connect_timeout=1, read_timeout=1, max_retries=1, retry_timeout=2, backoff=0.01)


@contextlib.asynccontextmanager
async def proxy(target: str, limit: int | None) -> AsyncIterator[str]:
    """A TCP proxy that passes ``limit`` bytes of answers, then hangs up (None: swallows all)."""
    host, _, port = target.removeprefix("http://").partition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))

        async def answers() -> None:
            left = limit
            while data := await inner_reader.read(65536):
                if left is None:
                    continue
                writer.write(data[:left])
                await writer.drain()
                left -= len(data)
                if left <= 0:
                    writer.transport.abort()
                    return

        back = asyncio.create_task(answers())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                inner_writer.write(data)
                await inner_writer.drain()
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None


async def test_a_truncated_body_is_detected(s3: S3, bucket: str) -> None:
    """A body that is cut is an error, never a shorter object."""
    async with s3.client(bucket) as storage:
        await storage.put("k", os.urandom(4 * MIB))
    async with (
        proxy(s3.url, MIB) as url,
        s3.client(bucket, endpoint_url=url, transport=QUICK) as cut,
    ):
        with pytest.raises(StorageUnavailable):
            await cut.get("k")


async def test_a_silent_server_is_given_up(s3: S3, bucket: str) -> None:
    """A server that never answers is `StorageUnavailable` in time, for each kind of request."""
    async with (
        proxy(s3.url, None) as url,
        s3.client(bucket, endpoint_url=url, transport=QUICK) as slow,
    ):
        attempts = slow.get("k"), slow.put("k", b"1"), slow.create_bucket()
        async with asyncio.timeout(8):
            ended = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(end) for end in ended] == [StorageUnavailable] * 3


async def test_no_server(bucket: str) -> None:
    """Nobody listening is `StorageUnavailable`, and the message holds no secret."""
    credentials = S3Credentials("AK", "very-secret")
    async with StorageClient(
        f"s3://{bucket}", credentials, endpoint_url="http://127.0.0.1:1", transport=QUICK
    ) as nobody:
        with pytest.raises(StorageUnavailable) as failure:
            await nobody.get("k")
    assert (
        "very-secret"
        not in f"{failure.value}{failure.value!r}{failure.value.__cause__}{credentials!r}{nobody!r}"
    )


async def test_wrong_credentials(s3: S3, bucket: str) -> None:
    """A wrong secret is `AccessDenied` that says what to check."""
    async with s3.client(bucket, credentials=S3Credentials("admin", "wrong")) as storage:
        with pytest.raises(AccessDenied, match="secret"):
            await storage.get("k")


async def test_credentials_are_refreshed(s3: S3, bucket: str) -> None:
    """A provider is asked again when what it gave is about to expire, plain and async alike."""
    from datetime import UTC, datetime

    asked: list[int] = []

    def provider() -> S3Credentials:
        asked.append(1)
        return S3Credentials(
            s3.access_key, s3.secret_key, None, datetime.now(UTC) + timedelta(seconds=1)
        )

    async with s3.client(bucket, credentials=provider) as storage:
        await storage.put("k", b"1")
        await storage.signed_url("k")
        await storage.signed_url("k")
    assert len(asked) >= 3


def open_files() -> int:
    """How many files and connections this process has open."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208  # not for its names


async def cancelled_uploads(s3: S3, bucket: str, count: int) -> None:
    body = [b"x" * (5 * MIB)] * 4
    async with s3.client(bucket) as first:  # the engine's own threads stay, once started
        await first.put("warm", b"1")
    gc.collect()
    open_before = open_files()
    async with s3.client(bucket) as storage:
        await storage.put("warm", b"1")
        before = len(asyncio.all_tasks())

        async def one(number: int) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.002 * (number % 40)):
                    await storage.put(f"c/{number % 50}", iter(body), part_size=5 * MIB)

        for start in range(0, count, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
    await eventually(lambda: open_files() <= open_before)
    assert not s3.boto.list_multipart_uploads(Bucket=bucket).get("Uploads")


@pytest.mark.timeout(115)
async def test_cancelled_uploads_leave_nothing(s3: S3, bucket: str) -> None:
    """Uploads cancelled at every moment leave no task, no connection and no part behind."""
    await cancelled_uploads(s3, bucket, 200)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_ten_thousand_cancelled_uploads(s3: S3, bucket: str) -> None:
    """The same, ten thousand times."""
    await cancelled_uploads(s3, bucket, 10_000)


@pytest.mark.campaign
async def test_a_server_killed_during_an_upload(tmp_path: Path) -> None:
    """Nothing is visible after the crash, and `cleanup_uploads` aborts what was begun."""
    async with SeaweedFS(tmp_path) as server:
        s3 = S3(f"http://127.0.0.1:{server.port}", "admin", "admin-secret-key")
        async with s3.client("crash", transport=QUICK) as storage:
            await storage.create_bucket()

            async def source() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"x" * 8 * MIB
                await server.kill()
                yield b"x" * 8 * MIB

            with pytest.raises(StorageUnavailable):
                await storage.put("big", source())
        await server.start()
        async with s3.client("crash") as storage:
            assert not await storage.exists("big")
            assert await storage.cleanup_uploads() == 0
            assert await storage.cleanup_uploads(older_than=timedelta(0)) == 1
        assert not s3.boto.list_multipart_uploads(Bucket="crash").get("Uploads")


async def test_a_closed_client(s3: S3, bucket: str) -> None:
    """Closing twice is fine, using it afterwards is an error that says so."""
    storage = s3.client(bucket)
    await storage.put("k", b"1")
    await storage.close()
    await storage.close()
    with pytest.raises(ClientClosed):
        await storage.get("k")


def test_processes_end_cleanly(s3: S3, bucket: str) -> None:
    """A short process that used and closed a client does not abort at its end."""
    code = f"""
import asyncio
from forktex_core.storage import S3Credentials, StorageClient
async def main():
    keys = S3Credentials("{s3.access_key}", "{s3.secret_key}")
    async with StorageClient("s3://{bucket}", keys, endpoint_url="{s3.url}") as storage:
        await storage.put("k", b"1")
        assert await storage.get("k") == b"1"
asyncio.run(main())
"""
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "..",
        ".",
        "a\\b",
        "a\nb",
        "a\x00",
        "\u202egnp.exe",
        "x" * 256,
        "a/" * 600 + "b",
        "\ud800",
    ],
)
def test_unsafe_keys(key: str) -> None:
    """Keys that mean different things in different places are refused."""
    with pytest.raises(InvalidKey):
        normalize_key(key)


def test_names_of_users_become_safe() -> None:
    """Whatever a user calls a file, the segment is a valid key; composed forms are one."""
    assert normalize_key("e\u0301") == "\u00e9"
    for name in (
        "../../etc/passwd",
        "C:\\x\\a b.pdf",
        "\u202egnp.exe",
        "",
        "..",
        "ü" * 300 + ".pdf",
        "a\x00b",
    ):
        assert "/" not in safe_name(name)
        assert normalize_key(safe_name(name))
    assert safe_name("C:\\x\\a b.pdf") == "a_b.pdf"

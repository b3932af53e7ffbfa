# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a backend can't do, and what a client does without: I/O, the environment, a right clock."""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, override

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.storage import (
    AccessDenied,
    AzureCredentials,
    BucketNotFound,
    GCSCredentials,
    InvalidKey,
    PublicAccess,
    S3Credentials,
    StorageClient,
    TooLarge,
    Unsupported,
    guess_content_type,
    normalize_key,
    safe_name,
)
from forktex_core.storage.backends import s3 as s3_backend
from tests.storage.servers import S3
from tests.storage.test_gcs import private_key

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]

LACKING: list[tuple[str, str, Callable[[StorageClient], Awaitable[object]]]] = [
    ("file", "signed write", lambda c: c.signed_url("k", PublicAccess.write)),
    ("memory", "signed write", lambda c: c.signed_url("k", PublicAccess.write)),
    ("file", "public prefix", lambda c: c.set_public("p/", PublicAccess.read)),
    ("memory", "public prefix", lambda c: c.set_public("p/", PublicAccess.read)),
    ("az", "browser upload", lambda c: c.signed_url("k", PublicAccess.write, max_bytes=1)),
    ("az", "upload type", lambda c: c.signed_url("k", PublicAccess.write, content_type="a/b")),
    ("az", "public prefix", lambda c: c.set_public("p/", PublicAccess.read)),
    ("az", "cleanup", lambda c: c.cleanup_uploads()),
]


@pytest.mark.parametrize("store", ["az"], indirect=True)
async def test_a_container_is_opened_as_a_whole(store: StorageClient) -> None:
    """Azure has public containers, and `is_public` asks the server about each."""
    await store.put("k", b"1")
    assert not await store.is_public("k")
    await store.set_public("", PublicAccess.read)
    assert await store.is_public("k")
    await store.set_public("", PublicAccess.none)
    assert not await store.is_public("k")


@pytest.mark.parametrize(
    ("store", "what", "work"), LACKING, indirect=["store"], ids=lambda v: v if v is str else None
)
async def test_unsupported_names_the_way_out(
    store: StorageClient, what: str, work: Callable[[StorageClient], Awaitable[object]]
) -> None:
    """What a backend lacks, by the table of the docs, is `Unsupported`, and says what to do."""
    with pytest.raises(Unsupported, match=r"cannot .*; ") as failure:
        await work(store)
    assert failure.value.bucket == store.bucket


ACCOUNTS: dict[str, Callable[[], Any]] = {
    "s3": lambda: S3Credentials("AK", "secret"),
    "gs": lambda: GCSCredentials("me@p.iam.gserviceaccount.com", private_key()),
    "az": lambda: AzureCredentials("account", "a2V5a2V5"),
}


@pytest.mark.parametrize("scheme", ACCOUNTS)
@pytest.mark.parametrize("access", [PublicAccess.read, PublicAccess.write])
async def test_signing_does_no_io(scheme: str, access: PublicAccess) -> None:
    """A URL is there when the coroutine has run once: it never waits for anything."""
    async with StorageClient(f"{scheme}://bucket", ACCOUNTS[scheme]()) as client:
        signing = client.signed_url("k", access)
        with pytest.raises(StopIteration) as done:
            signing.send(None)
    assert str(done.value.value).startswith("https://")


async def test_the_environment_has_no_say(s3: S3, bucket: str) -> None:
    """Neither proxies nor credentials nor endpoints come from environment variables."""
    code = f"""
import asyncio
from forktex_core.storage import S3Credentials, StorageClient
async def main():
    keys = S3Credentials("{s3.access_key}", "{s3.secret_key}")
    async with StorageClient("s3://{bucket}", keys, endpoint_url="{s3.url}") as storage:
        await storage.put("k", b"1")
        await storage.put("big", b"x" * {17 * MIB})
        print(await storage.get("k"), await storage.bucket_exists())
asyncio.run(main())
"""
    strange = {
        "http_proxy": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "strange",
        "AWS_SECRET_ACCESS_KEY": "strange",
        "AWS_SESSION_TOKEN": "strange",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "strange-1",
        "AWS_SKIP_SIGNATURE": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **strange},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("b'1' True\n", "")


async def test_a_wrong_clock_is_named(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses requests of an hour ago, and the error says that a clock is wrong."""

    class Late(datetime):
        @classmethod
        @override
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(s3_backend, "datetime", Late)
    async with s3.client(bucket) as storage:
        with pytest.raises(AccessDenied, match="clocks of this machine and of the store differ"):
            await storage.create_bucket()


async def test_a_bucket_is_created_on_request_only(s3: S3, bucket: str) -> None:
    """No way of writing creates the bucket, and creating one that is there is fine."""
    name = f"{bucket}-new"
    async with s3.client(name) as storage:
        for size in (1, 17 * MIB):
            with pytest.raises(BucketNotFound, match=r"create_bucket\(\)"):
                await storage.put("k", b"x" * size)
        with pytest.raises(BucketNotFound):
            await storage.cleanup_uploads()
        assert name not in {b["Name"] for b in s3.boto.list_buckets()["Buckets"]}
        await storage.create_bucket()
        await storage.create_bucket()
    assert name in {b["Name"] for b in s3.boto.list_buckets()["Buckets"]}


async def test_a_failing_provider(s3: S3, bucket: str) -> None:
    """While it fails, what is still valid stays in use; then `AccessDenied` says why."""
    lifetime, broken = timedelta(minutes=1), False

    async def provider() -> S3Credentials:
        if broken:
            raise ConnectionError("very-secret place")
        return S3Credentials(s3.access_key, s3.secret_key, None, datetime.now(UTC) + lifetime)

    async with s3.client(bucket, credentials=provider) as storage:
        await storage.bucket_exists()
        broken = True
        assert await storage.bucket_exists()
    lifetime, broken = timedelta(seconds=-1), False
    async with s3.client(bucket, credentials=provider) as storage:
        await storage.bucket_exists()
        broken = True
        with pytest.raises(AccessDenied, match="provider failed: ConnectionError") as failure:
            await storage.bucket_exists()
        assert "very-secret" not in str(failure.value)


async def test_a_stream_with_too_many_parts(storage: StorageClient) -> None:
    """A stream that outgrows the number of parts is `TooLarge`, and is aborted."""
    backend = storage._backend
    small = type(backend.parts)(smallest=5 * MIB, largest=5 * MIB, count=3)
    type(backend).parts, before = small, backend.parts  # type: ignore[misc]  # put back below
    try:
        with pytest.raises(TooLarge, match="more than 3 parts"):
            await storage.put("k", iter([b"x" * 5 * MIB] * 5), part_size=5 * MIB)
    finally:
        type(backend).parts = before  # type: ignore[misc]
    assert await storage.cleanup_uploads(older_than=timedelta(0)) == 0


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.pdf", b"", "application/pdf"),
        ("a.pdf", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("a", b"GIF89a", "image/gif"),
        ("a.parquet", b"PAR1", "application/vnd.apache.parquet"),
        ("a.ods", b"PK\x03\x04", "application/vnd.oasis.opendocument.spreadsheet"),
        ("a", b"PK\x03\x04", "application/zip"),
        ("a.txt", b"  <!-- x --><SCRIPT >", "text/html"),
        ("a", b'<?xml version="1.0"?><svg xmlns="x">', "image/svg+xml"),
        ("a", b"plain\ntext \xc3\xbc", "text/plain"),
        ("a", b"\x00\x01", "application/octet-stream"),
        ("a", b"", "application/octet-stream"),
        ("dir.pdf/a", b"", "application/octet-stream"),
        (".pdf", b"", "application/octet-stream"),
        ("a.tar.gz", b"\x1f\x8b\x08", "application/gzip"),
        ("A.JPEG", b"", "image/jpeg"),
    ],
)  # fmt: skip
def test_content_types(name: str, head: bytes, expected: str) -> None:
    """Bytes decide, a container is refined by the name, text is told from bytes."""
    assert guess_content_type(name, head) == expected


async def test_a_text_file_is_no_source(storage: StorageClient, tmp_path: Path) -> None:
    """Sources of text are refused by name, before anything is stored."""
    (tmp_path / "f").write_text("text")
    with (tmp_path / "f").open() as file, pytest.raises(TypeError, match="binary mode"):
        await storage.put("k", file)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="pass bytes, str"):
        await storage.put("k", 5)  # type: ignore[arg-type]  # what is tested
    for options in (
        {"metadata": {"Upper": "x"}},
        {"metadata": {"a": "ü"}},
        {"cache_control": "\n"},
    ):
        with pytest.raises(ValueError, match=r"metadata|Cache-Control"):
            await storage.put("k", b"", **options)  # type: ignore[arg-type]  # what is tested
    assert not await storage.exists("k")


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("/.\\ a\u202e\x00"))))
def test_any_text_is_refused_or_safe(text: str) -> None:
    """What is accepted is its own normal form, stays below a folder, and has no control character;
    what `safe_name` makes of any text is accepted."""
    name = safe_name(text)
    assert normalize_key(name) == name
    try:
        key = normalize_key(text)
    except InvalidKey:
        return
    assert normalize_key(key) == key == unicodedata.normalize("NFC", key)
    assert os.path.normpath(f"/folder/{key}") == f"/folder/{key}"
    assert not any(unicodedata.category(character) == "Cc" for character in key)

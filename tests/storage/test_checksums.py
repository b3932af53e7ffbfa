# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The checksums that S3 gets with bodies, checks and keeps: CRC64NVME, or SHA-256 if wanted."""

import base64
import hashlib
import os
from typing import Any

import pytest

from forktex_core.storage import AlreadyExists, PreconditionFailed, StorageClient
from forktex_core.storage.digests import Crc64Nvme
from forktex_core.storage.objects import Checksum
from tests.storage.gateway import gateway
from tests.storage.servers import S3

MIB = 1024 * 1024


def crc64nvme(*pieces: bytes | memoryview) -> bytes:
    """The digest of some pieces."""
    hashed = Crc64Nvme()
    for piece in pieces:
        hashed.update(piece)
    return hashed.digest()


def kept(s3: S3, bucket: str, key: str) -> dict[str, Any]:
    """What the store says to boto3 that it keeps."""
    head = s3.boto.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    names = ("ChecksumCRC64NVME", "ChecksumSHA256")
    return {name: head[name].partition("-")[0] for name in names if name in head}


def text(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


def test_the_check_value_of_crc64nvme() -> None:
    """The catalogue's check value comes out, and the same whole, in pieces and from views."""
    assert crc64nvme(b"123456789").hex() == "ae8b14860a799888"
    assert crc64nvme(b"1234", memoryview(b"56789")).hex() == "ae8b14860a799888"
    large = os.urandom(3 * MIB + 3)
    assert crc64nvme(large) == crc64nvme(large[:777], memoryview(large)[777:])


@pytest.mark.parametrize(
    ("checksum", "size", "name"),
    [
        ("crc64nvme", 3, "ChecksumCRC64NVME"),
        ("crc64nvme", MIB, "ChecksumCRC64NVME"),
        ("sha256", MIB, "ChecksumSHA256"),
    ],
)
async def test_what_the_store_keeps(
    s3: S3, bucket: str, checksum: Checksum, size: int, name: str
) -> None:
    """The store keeps the checksum that was chosen, of all the bytes, and no other."""
    body = os.urandom(size)
    async with s3.client(bucket, checksum=checksum) as client:
        await client.put("k", body)
        assert await client.get("k", verify=True) == body
    right = crc64nvme(body) if name == "ChecksumCRC64NVME" else hashlib.sha256(body).digest()
    assert kept(s3, bucket, "k") == {name: text(right)}


async def test_parts_keep_their_sha256(s3: S3, bucket: str) -> None:
    """Of an upload in parts the store keeps the SHA-256 of theirs, which a copy verifies by too."""
    body = os.urandom(20 * MIB)
    async with s3.client(bucket) as client:
        await client.put("k", body)
        await client.copy("k", "copy")
        for key in ("k", "copy"):
            assert await client.get(key, verify=True) == body
    parts = [body[start : start + 8 * MIB] for start in range(0, len(body), 8 * MIB)]
    right = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    assert kept(s3, bucket, "k") == {"ChecksumSHA256": text(right)}


async def test_the_signature_covers_the_body(s3: S3, bucket: str) -> None:
    """A CRC goes along with the SHA-256 in the signature, by which a store sees forged bytes."""
    body = os.urandom(2 * MIB)
    async with gateway(s3.url) as gate, s3.client(bucket, endpoint_url=gate.url) as client:
        await client.put("k", body)
        headers = {name.lower(): value for name, value in gate.seen[-1].headers.items()}
    assert headers["x-amz-checksum-crc64nvme"] == text(crc64nvme(body))
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert ";x-amz-checksum-crc64nvme;x-amz-content-sha256;" in headers["authorization"]


async def test_a_large_body_in_one_request(store: StorageClient) -> None:
    """Attributes and conditions are those of a small one, though S3 gets it another way."""
    body = os.urandom(2 * MIB)
    first = await store.put(
        "k", body, content_type="image/png", cache_control="max-age=60",
        content_disposition="inline", metadata={"order_id": "42"}, if_none_match="*",
    )  # fmt: skip
    info = await store.head("k")
    assert (info.content_type, info.cache_control, info.content_disposition) == (
        "image/png", "max-age=60", "inline",
    )  # fmt: skip
    assert (dict(info.metadata), info.etag) == ({"order_id": "42"}, first.etag)
    with pytest.raises(AlreadyExists):
        await store.put("k", body[::-1], if_none_match="*")
    await store.put("k", memoryview(body[::-1]), if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await store.put("k", body, if_match=first.etag)
    assert await store.get("k") == body[::-1]


def test_checksums_that_are_none() -> None:
    """A name that is not one is refused at once."""
    with pytest.raises(ValueError, match='checksum can be "crc64nvme" or "sha256"'):
        StorageClient("memory://b", checksum="md5")  # type: ignore[arg-type]

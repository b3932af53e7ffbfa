# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`CallbackApp` as HTTP clients see it: ranges, versions, HEAD, headers, refusals (RFC 9110)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from forktex_core.storage import CallbackApp, CallbackSigner, SignedURL, StorageClient
from tests.storage.servers import S3

BODY = bytes(range(200))


@pytest.fixture(params=["memory", "s3"])
async def client(
    request: pytest.FixtureRequest, s3: S3, bucket: str
) -> AsyncIterator[StorageClient]:
    """A client whose callback links the application serves."""
    signer = CallbackSigner("https://api.test/files", {"2026": b"k" * 32})
    where = StorageClient("memory://b", callback=signer)
    if request.param == "s3":
        where = s3.client(bucket, callback=signer)
    async with where as storage:
        await storage.create_bucket()
        yield storage


@pytest.fixture
async def web(client: StorageClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(CallbackApp(client))) as caller:
        yield caller


@pytest.fixture
async def url(client: StorageClient) -> SignedURL:
    """A link to 200 bytes."""
    await client.put("d/k.bin", BODY)
    return client.callback_url("d/k.bin")


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=190-", 206, 190, 200),
        ("bytes=190-9999", 206, 190, 200),
        ("bytes=-5", 206, 195, 200),
        ("bytes=-9999", 200, 0, 200),  # all of it: a whole answer says the same
        ("bytes=0-", 200, 0, 200),
        ("bytes=0-199", 200, 0, 200),
        ("bytes=20-10", 200, 0, 200),  # malformed, several, another unit: ignored
        ("bytes=-", 200, 0, 200),
        ("bytes=1-2,4-5", 200, 0, 200),
        ("lines=1-2", 200, 0, 200),
        ("bytes=x-2", 200, 0, 200),
        ("bytes=" + "9" * 5000 + "-", 200, 0, 200),
    ],
)
async def test_ranges(
    web: httpx.AsyncClient, url: str, asked: str, status: int, first: int, end: int
) -> None:
    """A range that can be had is sent and named; one that means nothing is no reason to fail."""
    answer = await web.get(url, headers={"range": asked})
    assert (answer.status_code, answer.content) == (status, BODY[first:end])
    assert answer.headers["content-length"] == str(end - first)
    assert answer.headers["accept-ranges"] == "bytes"
    named = f"bytes {first}-{end - 1}/200" if status == 206 else None
    assert answer.headers.get("content-range") == named


@pytest.mark.parametrize("asked", ["bytes=200-", "bytes=200-300", "bytes=-0"])
async def test_a_range_outside(web: httpx.AsyncClient, url: str, asked: str) -> None:
    """What lies outside is 416 with the size."""
    answer = await web.get(url, headers={"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */200")


async def test_an_empty_object(client: StorageClient, web: httpx.AsyncClient) -> None:
    """No bytes are served as such, whatever range is asked for."""
    await client.put("empty", b"")
    for headers in ({}, {"range": "bytes=0-"}, {"range": "bytes=-5"}):
        answer = await web.get(client.callback_url("empty"), headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"


async def test_versions(client: StorageClient, web: httpx.AsyncClient, url: str) -> None:
    """If-None-Match saves the body for whoever has it; If-Range gives the whole of a new one."""
    etag = (await web.get(url)).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await web.get(url, headers={"if-none-match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    for other in ('"other"', etag.strip('"'), f'{etag[:-2]}"'):
        assert (await web.get(url, headers={"if-none-match": other})).status_code == 200
    ranged = {"range": "bytes=0-9"}
    same = await web.get(url, headers={**ranged, "if-range": etag})
    assert (same.status_code, same.content) == (206, BODY[:10])
    await client.put("d/k.bin", BODY[::-1])
    newer = await web.get(url, headers={**ranged, "if-range": etag})
    assert (newer.status_code, newer.content) == (200, BODY[::-1])


async def test_head(web: httpx.AsyncClient, url: str) -> None:
    """HEAD has the headers of a GET of the whole, without a body, and takes no range."""
    whole = await web.get(url)
    for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=900-"}):
        head = await web.head(url, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == "200"
        assert head.headers["etag"] == whole.headers["etag"]
        assert head.headers["content-type"] == whole.headers["content-type"]
    etag = whole.headers["etag"]
    assert (await web.head(url, headers={"if-none-match": etag})).status_code == 304


@pytest.mark.parametrize(
    ("key", "body", "override"),
    [
        ("a.svg", b"<svg></svg>", None),
        ("a", b"<!DOCTYPE html><script>alert(1)</script>", None),
        ("a.txt", b"plain", "text/html; charset=utf-8"),
    ],
)
async def test_code_is_not_run(
    client: StorageClient, web: httpx.AsyncClient, key: str, body: bytes, override: str | None
) -> None:
    """What a browser would run is saved, in a sandbox that may load nothing, and never sniffed."""
    await client.put(key, body)
    answer = await web.get(client.callback_url(key, content_type=override))
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_headers(client: StorageClient, web: httpx.AsyncClient) -> None:
    """The object's own headers are served; a cache keeps a link's answer no longer than the link;
    a file name can't break out of its header."""
    await client.put("own", b"1", cache_control="max-age=7", content_disposition="inline")
    own = await web.get(client.callback_url("own"))
    assert (own.headers["cache-control"], own.headers["content-disposition"]) == (
        "max-age=7",
        "inline",
    )
    await client.put("k.pdf", b"%PDF-1.7")
    hostile = 'a"; x=y\r\nset-cookie: z=1\u20ac.pdf'
    answer = await web.get(client.callback_url("k.pdf", 100, filename=hostile))
    kind, age = answer.headers["cache-control"].split(", max-age=")
    assert kind == "private"
    assert int(age) <= 100
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "application/pdf"
    assert "content-security-policy" not in answer.headers
    assert answer.headers["content-disposition"] == (
        'attachment; filename="a_; x=y__set-cookie: z=1_.pdf"; '
        "filename*=UTF-8''a%22%3B%20x%3Dy%0D%0Aset-cookie%3A%20z%3D1%E2%82%AC.pdf"
    )


async def test_refusals(client: StorageClient, web: httpx.AsyncClient, url: str) -> None:
    """Altered is 403, too old 410, missing 404, another method 405 with those that there are."""
    assert (await web.get(url.replace("k.bin", "other"))).status_code == 403
    assert (await web.get(client.callback_url("missing"))).status_code == 404
    wrong = await web.delete(url)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    client._clock = lambda: datetime.now(UTC) - timedelta(hours=1)
    old = client.callback_url("d/k.bin", 60)
    client._clock = lambda: datetime.now(UTC)
    assert (await web.get(old)).status_code == 410


async def test_a_socket_is_refused(client: StorageClient) -> None:
    """The application serves HTTP only, and says so."""
    with pytest.raises(ValueError, match="serves http, not websocket"):
        await CallbackApp(client)({"type": "websocket"}, None, None)  # type: ignore[arg-type]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Signed URLs, policies and callback links as plain HTTP clients see them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from forktex_core.storage import (
    Area,
    CallbackApp,
    CallbackSigner,
    InvalidTTL,
    Layout,
    LinkExpired,
    LinkInvalid,
    PublicAccess,
    PublicLinks,
    StorageClient,
    Unsupported,
)
from tests.storage.servers import S3

KEYS = {"2026": b"k" * 32}


async def test_a_signed_url_reads(storage: StorageClient) -> None:
    """Anybody with the URL reads; without, with another key or a changed signature nobody does."""
    await storage.put("a b/ü.txt", b"hello")
    url = await storage.signed_url(
        "a b/ü.txt", access=PublicAccess.read, ttl_seconds=600, filename="ü.txt"
    )
    async with httpx.AsyncClient() as web:
        answer = await web.get(url)
        assert (answer.status_code, answer.content) == (200, b"hello")
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert (await web.get(url.partition("?")[0])).status_code == 403
        assert (await web.get(url.replace("b/%C3%BC", "b/x"))).status_code == 403
        assert (await web.get(url[:-1] + ("0" if url[-1] != "0" else "1"))).status_code == 403
        assert (await web.put(url, content=b"x")).status_code == 403


async def test_code_is_never_shown_in_place(storage: StorageClient) -> None:
    """A link to HTML or SVG makes the browser save it."""
    await storage.put("x.svg", b"<svg></svg>")
    async with httpx.AsyncClient() as web:
        answer = await web.get(await storage.signed_url("x.svg"))
    assert answer.headers["content-disposition"] == "attachment"


async def test_a_link_ends(s3: S3, bucket: str) -> None:
    """A link that was made an hour ago for ten minutes is refused by the server."""
    async with s3.client(bucket, clock=lambda: datetime.now(UTC) - timedelta(hours=1)) as past:
        await past.put("k", b"1")
        url = await past.signed_url("k")
    async with httpx.AsyncClient() as web:
        assert (await web.get(url)).status_code == 403


async def test_clock_skew(s3: S3, bucket: str) -> None:
    """A clock that is a little ahead makes links that hold at once."""
    async with s3.client(bucket, clock=lambda: datetime.now(UTC) + timedelta(seconds=50)) as ahead:
        await ahead.put("k", b"1")
        url = await ahead.signed_url("k")
    async with httpx.AsyncClient() as web:
        assert (await web.get(url)).status_code == 200


async def test_a_signed_url_writes_what_it_says(storage: StorageClient) -> None:
    """A PUT needs the signed content type."""
    url = await storage.signed_url("up.png", PublicAccess.write, content_type="image/png")
    assert url.method == "PUT"
    async with httpx.AsyncClient() as web:
        assert (
            await web.put(url, content=b"x", headers={"content-type": "text/html"})
        ).status_code == 403
        assert (await web.put(url, content=b"x", headers=url.headers)).status_code == 200
    assert await storage.get("up.png") == b"x"


async def test_a_browser_upload_is_limited(storage: StorageClient) -> None:
    """The form admits the size and types that were signed, for that key, and nothing else."""
    form = await storage.signed_url(
        "p.png", PublicAccess.write, content_type="image/*", max_bytes=10
    )
    async with httpx.AsyncClient() as web:

        async def post(body: bytes, kind: str, **changed: str) -> int:
            fields = {**form.fields, "Content-Type": kind, **changed}
            return (await web.post(form, data=fields, files={"file": ("f", body)})).status_code

        assert await post(b"x" * 11, "image/png") >= 400
        assert await post(b"x", "text/html") >= 400
        assert await post(b"x", "image/png", key="other") >= 400
        assert not await storage.exists("p.png")
        assert await post(b"x" * 10, "image/png") in (200, 201, 204)
    assert await storage.get("p.png") == b"x" * 10


async def test_arguments_of_links(storage: StorageClient) -> None:
    """Lifetimes beyond the provider's, no access, and misplaced options are refused by name."""
    for ttl in (0, 7 * 24 * 3600 + 1):
        with pytest.raises(InvalidTTL, match="604800"):
            await storage.signed_url("k", ttl_seconds=ttl)
    assert "X-Amz-Expires=604800" in await storage.signed_url("k", ttl_seconds=7 * 24 * 3600)
    with pytest.raises(ValueError, match=r"PublicAccess\.none"):
        await storage.signed_url("k", PublicAccess.none)
    with pytest.raises(ValueError, match="max_bytes"):
        await storage.signed_url("k", max_bytes=5)
    async with StorageClient("memory://b") as memory:
        with pytest.raises(Unsupported, match="callback"):
            await memory.signed_url("k")


async def test_a_public_area_is_public(s3: S3, bucket: str) -> None:
    """The first write opens the area by policy, a private one stays closed; `is_public` is true."""
    layout = Layout(
        Area("avatars", "open/avatars/{tenant}", access=PublicAccess.read),
        Area("invoices", "closed/{tenant}"),
    )
    async with s3.client(bucket, layout=layout) as storage:
        avatars, invoices = (
            storage.area("avatars", tenant="acme"),
            storage.area("invoices", tenant="acme"),
        )
        await avatars.put("me.png", b"1")
        await invoices.put("1.pdf", b"2")
        assert await avatars.is_public("me.png")
        assert not await invoices.is_public("1.pdf")
        async with httpx.AsyncClient() as web:
            assert (await web.get(avatars.public_url("me.png"))).content == b"1"
            assert (await web.get(invoices.public_url("1.pdf"))).status_code == 403
        await storage.set_public("open/avatars/", PublicAccess.none)
        assert not await avatars.is_public("me.png")


def test_layouts_keep_public_and_private_apart() -> None:
    """Areas inside each other, unknown purposes and wrong values are refused."""
    with pytest.raises(ValueError, match="lies inside"):
        Layout(Area("a", "x", access=PublicAccess.read), Area("b", "x/y"))
    with pytest.raises(ValueError, match="same purpose"):
        Layout(Area("a", "x"), Area("a", "y"))
    with pytest.raises(KeyError, match="invoices"):
        Layout(Area("invoices", "i")).area("nope")
    area = Area("a", "x/{tenant}")
    for values in ({}, {"tenant": "a/b"}, {"tenant": ".."}, {"tenant": "a", "more": 1}):
        with pytest.raises(ValueError, match=r"tenant|segment"):
            area.fill(values)


async def test_public_links_decide_addresses(s3: S3, bucket: str) -> None:
    """The same code gives addresses of the store, of a CDN, and links signed for the outer name."""
    config: dict[str, Any] = {
        "endpoint_url": "https://files.example.com",
        "rules": [
            {"prefix": "open/", "base_url": "https://cdn.example.com/x", "strip_prefix": True}
        ],
    }
    async with s3.client(bucket, links=PublicLinks.from_config(config)) as storage:
        assert storage.public_url("open/a b.png") == "https://cdn.example.com/x/a%20b.png"
        assert storage.public_url("k") == f"https://files.example.com/{bucket}/k"
        assert urlsplit(await storage.signed_url("k")).netloc == "files.example.com"
    async with s3.client(bucket) as plain:
        assert plain.public_url("k") == f"{s3.url}/{bucket}/k"
    with pytest.raises(ValueError, match="Unknown in rule: prefx"):
        PublicLinks.from_config({"rules": [{"prefx": "a"}]})


async def test_a_link_signed_for_the_outer_name_works_there(s3: S3, bucket: str) -> None:
    """The client talks to 127.0.0.1 and signs for localhost, where the link works."""
    outer = s3.url.replace("127.0.0.1", "localhost")
    async with s3.client(bucket, links=PublicLinks(endpoint_url=outer)) as storage:
        await storage.put("k", b"1")
        url = await storage.signed_url("k")
    async with httpx.AsyncClient() as web:
        assert (await web.get(url)).content == b"1"
        assert (await web.get(url.replace("localhost", "127.0.0.1"))).status_code == 403


async def test_callback_links(storage: StorageClient, s3: S3) -> None:
    """The service's own URLs stream, with ranges; altered, expired, retired ones are refused."""
    signer = CallbackSigner("https://api.test/files", KEYS)
    async with s3.client(storage.bucket, callback=signer) as client:
        await client.put("d/ü.bin", bytes(range(200)))
        url = client.callback_url("d/ü.bin", 60, filename="x.bin")
        assert client.verify_callback(url).key == "d/ü.bin"
        app = httpx.ASGITransport(CallbackApp(client))
        async with httpx.AsyncClient(transport=app) as web:
            whole = await web.get(url)
            assert (whole.status_code, whole.content) == (200, bytes(range(200)))
            assert whole.headers["x-content-type-options"] == "nosniff"
            part = await web.get(url, headers={"range": "bytes=10-19"})
            assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
            assert part.headers["content-range"] == "bytes 10-19/200"
            assert (await web.get(url, headers={"range": "bytes=-5"})).content == bytes(
                range(195, 200)
            )
            assert (await web.get(url, headers={"range": "bytes=500-"})).status_code == 416
            assert (
                await web.get(url, headers={"if-none-match": whole.headers["etag"]})
            ).status_code == 304
            head = await web.head(url)
            assert (head.status_code, head.content, head.headers["content-length"]) == (
                200,
                b"",
                "200",
            )
            assert (await web.post(url)).status_code == 405
            assert (await web.get(url.replace("%C3%BC", "x"))).status_code == 403
            assert (await web.get(url + "&x=1")).status_code == 403
            assert (await web.get(client.callback_url("missing"))).status_code == 404
    now = datetime.now(UTC)
    with pytest.raises(LinkExpired):
        signer.verify(url, now=now + timedelta(minutes=5))
    rotated = CallbackSigner("https://api.test/files", {"2027": b"n" * 32, **KEYS})
    assert rotated.verify(url, now=now).key == "d/ü.bin"
    with pytest.raises(LinkInvalid):
        CallbackSigner("https://api.test/files", {"2027": b"n" * 32}).verify(url, now=now)
    with pytest.raises(ValueError, match="at least 16"):
        CallbackSigner("https://api.test", {"a": b"short"})
    assert "kkkk" not in repr(signer)

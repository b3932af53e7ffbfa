# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Signed URLs, policies and callback links as plain HTTP clients see them."""

import asyncio
import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from forktex_core.storage import (
    Area,
    AzureCredentials,
    CallbackApp,
    CallbackClaims,
    CallbackSigner,
    InvalidKey,
    InvalidTTL,
    Layout,
    LinkExpired,
    LinkInvalid,
    LinkRule,
    PublicAccess,
    PublicLinks,
    StorageClient,
    Unsupported,
)
from tests.storage.servers import AZURITE_KEY, S3

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


@pytest.mark.parametrize(
    "key", ["a b+c", "d/ü/日本", "x'(1)*!~,;", "50%25 off", "q?a=b&c#d", "@:$="]
)
async def test_a_signed_url_of_any_key(storage: StorageClient, key: str) -> None:
    """Whatever a key holds, its link reads just that object, and our own requests find it."""
    await storage.put(key, key)
    async with httpx.AsyncClient() as web:
        answer = await web.get(await storage.signed_url(key))
    assert (answer.status_code, answer.text) == (200, key)
    assert await storage.get(key, verify=True) == key.encode()


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
    own = Layout(Area("a", "x", access=PublicAccess.read), Area("b", "x/y", bucket="b"))
    with pytest.raises(ValueError, match="lies inside"):
        StorageClient("memory://b", layout=own)
    area = Area("a", "x/{tenant}")
    assert area.fill({"tenant": "e\u0301"}) == "x/\u00e9/"
    for hostile in ("", ".", "..", "a\\b", "a\x00", "\u202ea", "x" * 256):
        with pytest.raises(InvalidKey):
            area.fill({"tenant": hostile})
    for prefix in ("{tenant}/a", "x/a{tenant}", "x/../y", "x//y", "x/{}"):
        with pytest.raises(ValueError, match=r"segment|placeholder|empty"):
            Area("a", prefix)
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


def test_which_key_signs_a_callback_and_how_long_it_holds() -> None:
    """The first key signs; half a minute after its end a link still holds, and then no more; a
    field that stands twice was not signed so."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    signer = CallbackSigner("https://api.test/files", {"2027": b"n" * 32, **KEYS})
    url = signer.sign(CallbackClaims("b", "k", now))
    assert parse_qs(urlsplit(url).query)["k"] == ["2027"]
    assert signer.verify(url, now=now + timedelta(seconds=30)).expires_at == now
    with pytest.raises(LinkExpired):
        signer.verify(url, now=now + timedelta(seconds=31))
    with pytest.raises(LinkInvalid, match="not signed"):
        signer.verify(f"{url}&b=b", now=now)


@pytest.mark.parametrize(("ttl", "before"), [(600, 60), (7 * 24 * 3600 - 20, 20)])
async def test_a_link_begins_before_now(s3: S3, ttl: int, before: int) -> None:
    """A margin for clocks that differ, as far as the longest lifetime leaves room; the end is the
    one that was asked for."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    async with s3.client("b", clock=lambda: now) as storage:
        url = await storage.signed_url("k", ttl_seconds=ttl)
    query = parse_qs(urlsplit(url).query)
    begins = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert begins == now - timedelta(seconds=before)
    assert begins + timedelta(seconds=int(query["X-Amz-Expires"][0])) == url.expires_at
    assert url.expires_at == now + timedelta(seconds=ttl)


async def test_links_of_azure(azurite: str) -> None:
    """A SAS reads and writes one blob, and the server refuses it for another or altered."""
    account = AzureCredentials("devstoreaccount1", AZURITE_KEY)
    name = f"t-{secrets.token_hex(6)}"
    async with StorageClient(f"az://{name}", account, endpoint_url=azurite) as storage:
        await storage.create_bucket()
        up = await storage.signed_url("a b/ü.txt", PublicAccess.write)
        async with httpx.AsyncClient() as web:
            assert (await web.put(up, content=b"hello", headers=up.headers)).status_code == 201
            assert (await web.get(up)).status_code == 403
            url = await storage.signed_url("a b/ü.txt", filename="ü.txt", content_type="text/x")
            answer = await web.get(url)
            assert (answer.status_code, answer.content) == (200, b"hello")
            assert answer.headers["content-disposition"].startswith("attachment;")
            assert answer.headers["content-type"] == "text/x"
            await storage.put("other", b"1")
            assert (await web.get(url.replace("a%20b/%C3%BC.txt", "other"))).status_code == 403
            assert (await web.put(url, content=b"x", headers=up.headers)).status_code == 403
            assert (await web.get(url.replace("text", "html"))).status_code == 403
        with pytest.raises(InvalidTTL, match="31536000"):
            await storage.signed_url("k", ttl_seconds=366 * 24 * 3600)


async def test_the_most_specific_rule_decides(s3: S3, bucket: str) -> None:
    """A bucket's rule goes before everybody's, a longer prefix before a shorter one; a rule's
    endpoint before the common one."""
    links = PublicLinks(
        endpoint_url="https://outside.test",
        rules=[
            LinkRule(base_url="https://any.test"),
            LinkRule(prefix="a/", base_url="https://any-a.test"),
            LinkRule(bucket=bucket, prefix="b/", base_url="https://mine-b.test/x/"),
            LinkRule(bucket=bucket, prefix="b/c/", endpoint_url="https://own.test"),
        ],
    )
    async with s3.client(bucket, links=links) as storage:
        assert storage.public_url("k") == "https://any.test/k"
        assert storage.public_url("a/k") == "https://any-a.test/a/k"
        assert storage.public_url("b/k") == "https://mine-b.test/x/b/k"
        assert storage.public_url("b/c/k") == f"https://own.test/{bucket}/b/c/k"
        assert storage.in_bucket("other").public_url("b/k") == "https://any.test/b/k"
        signed = await storage.signed_url("b/c/k"), await storage.signed_url("b/k")
    assert [urlsplit(url).netloc for url in signed] == ["own.test", "outside.test"]


async def test_a_cdn_in_front(s3: S3, bucket: str) -> None:
    """The same call is signed for CloudFront where a rule has a key pair, file name included; the
    public key verifies it, writes go to the store."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    rule = {
        "prefix": "media/",
        "base_url": "https://cdn.test",
        "cloudfront": {"key_pair_id": "KPAIR", "private_key": pem},
    }
    links = PublicLinks.from_config({"rules": [rule]})
    assert pem[30:60] not in repr(links.rules)
    async with s3.client(bucket, links=links) as storage:
        url = await storage.signed_url("media/a b.mp4", ttl_seconds=600, filename="a.mp4")
        write = await storage.signed_url("media/a b.mp4", PublicAccess.write)
        with pytest.raises(InvalidTTL):
            await storage.signed_url("media/a b.mp4", ttl_seconds=0)
    resource, _, signed = url.partition("&Expires=")
    assert resource.startswith("https://cdn.test/media/a%20b.mp4?response-content-disposition=")
    query = parse_qs(f"Expires={signed}")
    document = {
        "Statement": [
            {
                "Resource": resource,
                "Condition": {"DateLessThan": {"AWS:EpochTime": int(query["Expires"][0])}},
            }
        ]
    }
    proof = base64.b64decode(query["Signature"][0].translate(str.maketrans("-_~", "+=/")))
    text = json.dumps(document, separators=(",", ":")).encode()
    key.public_key().verify(proof, text, padding.PKCS1v15(), hashes.SHA1())
    assert abs(int(query["Expires"][0]) - url.expires_at.timestamp()) < 1
    assert urlsplit(write).netloc == urlsplit(s3.url).netloc


async def test_an_area_in_a_bucket_of_its_own(s3: S3, bucket: str) -> None:
    """An area may have its bucket, and `apply_layout` opens public areas ahead of any write."""
    other = f"{bucket}-public"
    layout = Layout(Area("site", "site/{tenant}", bucket=other, access=PublicAccess.read))
    async with s3.client(bucket, layout=layout) as storage:
        await storage.in_bucket(other).create_bucket()
        await storage.apply_layout()
        s3.boto.put_object(Bucket=other, Key="site/acme/x", Body=b"1")
        s3.boto.put_object(Bucket=other, Key="else", Body=b"1")
        site = storage.area("site", tenant="acme")
        assert (site.bucket, site.prefix) == (other, "site/acme/")
        assert await site.is_public("x")
        assert not await storage.in_bucket(other).is_public("else")


async def test_policies_of_others_stay(s3: S3, bucket: str) -> None:
    """Opening and closing a prefix leaves every other statement as it was."""
    theirs = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/theirs/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [theirs]})
    s3.boto.put_bucket_policy(Bucket=bucket, Policy=policy)
    async with s3.client(bucket) as storage:
        await storage.put("theirs/x", b"1")
        await storage.put("ours/x", b"1")
        await storage.set_public("ours/", PublicAccess.read)
        await storage.set_public("ours/", PublicAccess.read)
        now = json.loads(s3.boto.get_bucket_policy(Bucket=bucket)["Policy"])
        assert len(now["Statement"]) == 2
        assert await storage.is_public("ours/x")
        await storage.set_public("ours/", PublicAccess.none)
        assert not await storage.is_public("ours/x")
        assert await storage.is_public("theirs/x")
        for wild in ("o*/", "o?rs/", "${aws:username}/"):
            with pytest.raises(ValueError, match="wildcard"):
                await storage.set_public(wild, PublicAccess.read)


async def test_a_reader_that_goes_away_ends_the_stream() -> None:
    """The app stops reading from the store when its client has disconnected."""
    signer = CallbackSigner("https://api.test/files", KEYS)
    async with StorageClient("memory://b", callback=signer) as client:
        await client.create_bucket()
        await client.put("big", b"x" * 10_000_000)
        url = urlsplit(client.callback_url("big"))
        scope = {
            "type": "http", "method": "GET", "path": url.path, "headers": [],
            "query_string": url.query.encode(),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) == 4:
                gone.set()
            await asyncio.sleep(0)

        await CallbackApp(client)(scope, receive, send)  # type: ignore[arg-type]  # plain dicts
    assert 4 <= len(sent) < 10
    assert sent[-1]["more_body"]

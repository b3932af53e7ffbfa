# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""How each public name fails. A name, or a method of the client, that is added without saying so
here fails these tests."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from forktex_core import storage
from forktex_core.storage import (
    Area,
    AzureCredentials,
    CallbackApp,
    CallbackClaims,
    CallbackSigner,
    ClientClosed,
    CloudFrontSigner,
    CommonPrefix,
    GCSCredentials,
    Layout,
    LinkRule,
    ObjectInfo,
    PrefixReport,
    PublicAccess,
    PublicLinks,
    PutResult,
    S3Credentials,
    SignedURL,
    StorageClient,
    StorageError,
    Transport,
    guess_content_type,
    normalize_key,
    safe_name,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = CallbackSigner("https://api.test/files", {"k": b"s" * 16})
GRANT = CallbackClaims("b", "k", NOW)
KEYS = S3Credentials("AK", "secret")


@dataclass
class World:
    """What a failure may need: a client of an empty bucket in memory, and a folder."""

    client: StorageClient
    folder: Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One of them."""
    async with StorageClient("memory://b", callback=SIGNER) as client:
        await client.create_bucket()
        yield World(client, tmp_path)


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """The address of a server that always says the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):
            pass
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def answered(status: str, code: str) -> object:
    """Ask a store that says this."""
    body = f"<Error><Code>{code}</Code></Error>".encode()
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    quick = Transport(max_retries=0)
    async with (
        answering(head.encode() + body) as url,
        StorageClient("s3://b", KEYS, endpoint_url=url, transport=quick) as client,
    ):
        return await client.get("k")


async def exists_already(world: World) -> object:
    await world.client.put("k", b"1")
    return await world.client.put("k", b"2", if_none_match="*")


async def cut_short(world: World) -> object:
    async with StorageClient(f"file://{world.folder}/b") as client:
        await client.create_bucket()
        await client.put("k", b"x" * 3_000_000)
        async for _ in client.stream("k", chunk_size=1_000_000):
            (world.folder / "b" / "k").write_bytes(b"x" * 1_000_000)


async def outside(world: World) -> object:
    await world.client.put("k", b"1")
    return await world.client.get("k", start=5)


async def after_closing(world: World) -> object:
    await world.client.close()
    return await world.client.get("k")


async def closed_reader(world: World) -> object:
    await world.client.put("k", b"1")
    async with await world.client.open("k") as reader:
        pass
    return await reader.read()


async def too_many_parts(world: World) -> object:
    return await world.client.put("k", iter([b"x" * 10_001]), part_size=1)


def frozen(value: object, name: str) -> None:
    """Try to change a value that is shared."""
    setattr(value, name, "changed")


def link_of(seconds: int) -> str:
    return SIGNER.sign(CallbackClaims("b", "k", NOW + timedelta(seconds=seconds)))


INFO = ObjectInfo("k", 1, "e", NOW)
URL = SignedURL("https://b.test/k", method="GET", expires_at=NOW)
WRONG = "http://b.test/?query"

type Failing = Callable[[World], Awaitable[object] | object]

# The name, what its user does wrong or meets, and what comes out.
FAILURES: dict[str, tuple[Failing, type[BaseException]]] = {
    "AccessDenied": (lambda w: answered("403 No", "AccessDenied"), storage.AccessDenied),
    "AlreadyExists": (exists_already, storage.AlreadyExists),
    "Area": (lambda w: Area("a", "{tenant}"), ValueError),
    "AzureCredentials": (lambda w: AzureCredentials("only a name"), TypeError),  # type: ignore[call-arg]
    "BucketNotFound": (lambda w: w.client.in_bucket("c").put("k", b""), storage.BucketNotFound),
    "CallbackApp": (lambda w: CallbackApp(w.client)({"type": "websocket"}, None, None), ValueError),  # type: ignore[arg-type]
    "CallbackClaims": (lambda w: frozen(GRANT, "key"), AttributeError),
    "CallbackSigner": (lambda w: CallbackSigner("https://a.test", {"k": "short"}), ValueError),
    "ChecksumMismatch": (
        lambda w: w.client.put("k", b"1", sha256="0" * 64),
        storage.ChecksumMismatch,
    ),
    "ClientClosed": (after_closing, storage.ClientClosed),
    "CloudFrontSigner": (
        lambda w: CloudFrontSigner("K", "no key").sign("https://a.test", expires=NOW),
        ValueError,
    ),
    "CommonPrefix": (lambda w: frozen(CommonPrefix("a/"), "prefix"), AttributeError),
    "GCSCredentials": (lambda w: GCSCredentials.from_service_account({"type": "user"}), KeyError),
    "InvalidKey": (lambda w: w.client.get("../k"), storage.InvalidKey),
    "InvalidRange": (outside, storage.InvalidRange),
    "InvalidTTL": (lambda w: w.client.callback_url("k", 0), storage.InvalidTTL),
    "Layout": (lambda w: Layout().area("none"), KeyError),
    "LinkError": (lambda w: SIGNER.verify("https://a.test/k", now=NOW), storage.LinkError),
    "LinkExpired": (lambda w: SIGNER.verify(link_of(-60), now=NOW), storage.LinkExpired),
    "LinkInvalid": (lambda w: SIGNER.verify(link_of(60) + "x", now=NOW), storage.LinkInvalid),
    "LinkRule": (lambda w: LinkRule(base_url=WRONG), ValueError),
    "NotFound": (lambda w: w.client.get("k"), storage.NotFound),
    "ObjectInfo": (lambda w: frozen(INFO, "size"), AttributeError),
    "ObjectReader": (closed_reader, storage.ClientClosed),
    "PreconditionFailed": (
        lambda w: w.client.put("k", b"1", if_match="other"),
        storage.PreconditionFailed,
    ),
    "PrefixReport": (lambda w: frozen(PrefixReport(1, 1, True), "objects"), AttributeError),
    "PublicAccess": (lambda w: PublicAccess("everything"), ValueError),
    "PublicLinks": (lambda w: PublicLinks.from_config({"rule": []}), ValueError),
    "PutResult": (lambda w: frozen(PutResult("k", 1, "e", "a/b"), "size"), AttributeError),
    "RequestRefused": (lambda w: answered("409 No", "Odd"), storage.RequestRefused),
    "S3Credentials": (lambda w: S3Credentials("only an id"), TypeError),  # type: ignore[call-arg]
    "SignedURL": (lambda w: frozen(URL, "other"), AttributeError),
    "StorageClient": (lambda w: StorageClient("ftp://b"), ValueError),
    "StorageError": (lambda w: w.client.get("k"), storage.StorageError),
    "StorageUnavailable": (lambda w: answered("503 No", "SlowDown"), storage.StorageUnavailable),
    "TooLarge": (too_many_parts, storage.TooLarge),
    "Transport": (lambda w: frozen(Transport(), "max_retries"), AttributeError),
    "TruncatedBody": (cut_short, storage.TruncatedBody),
    "Unsupported": (
        lambda w: w.client.signed_url("k", PublicAccess.write),
        storage.Unsupported,
    ),
    "normalize_key": (lambda w: normalize_key("a\x00"), storage.InvalidKey),
}
ROOTS = {"StorageError", "LinkError"}

# Functions that refuse no text: what they say when they can say nothing.
HOPELESS: dict[str, tuple[Callable[[], str], str]] = {
    "guess_content_type": (lambda: guess_content_type("?", b"\x00"), "application/octet-stream"),
    "safe_name": (lambda: safe_name("../.."), "file"),
}


def test_each_public_name_says_how_it_fails() -> None:
    """None is missing and none is gone."""
    assert sorted([*FAILURES, *HOPELESS]) == sorted(storage.__all__)
    for call, answer in HOPELESS.values():
        assert call() == answer


@pytest.mark.parametrize("name", FAILURES)
async def test_a_public_name_fails_as_it_says(world: World, name: str) -> None:
    """Just that error comes out (below it, for the two roots), and one of ours says about what."""
    work, expected = FAILURES[name]
    with pytest.raises(expected) as failure:
        done = work(world)
        if inspect.isawaitable(done):
            await done
    if name not in ROOTS and inspect.isclass(kind := getattr(storage, name)):
        assert failure.type is kind or not issubclass(kind, StorageError)
    assert str(failure.value)


# A call of each public method of the client; None where a closed client may still answer.
CALLS: dict[str, Callable[[StorageClient], Any] | None] = {
    "apply_layout": lambda c: c.apply_layout(),
    "area": lambda c: c.area("a").get("k"),
    "bucket": None,
    "bucket_exists": lambda c: c.bucket_exists(),
    "callback_url": None,  # follows from key and time alone
    "cleanup_uploads": lambda c: c.cleanup_uploads(),
    "close": None,
    "copy": lambda c: c.copy("a", "b"),
    "create_bucket": lambda c: c.create_bucket(),
    "delete": lambda c: c.delete("k"),
    "delete_many": lambda c: c.delete_many(["k"]),
    "delete_prefix": lambda c: c.delete_prefix("k"),
    "download_file": lambda c: c.download_file("k", "never-made"),
    "exists": lambda c: c.exists("k"),
    "get": lambda c: c.get("k"),
    "head": lambda c: c.head("k"),
    "in_bucket": lambda c: c.in_bucket("other").get("k"),
    "is_public": lambda c: c.is_public("k"),
    "list": lambda c: c.list(),
    "move": lambda c: c.move("a", "b"),
    "open": lambda c: c.open("k"),
    "prefix": None,
    "public_url": lambda c: c.public_url("k"),
    "put": lambda c: c.put("k", b""),
    "set_public": lambda c: c.set_public("k", PublicAccess.read),
    "signed_url": lambda c: c.signed_url("k"),
    "stream": lambda c: c.stream("k"),
    "upload_file": lambda c: c.upload_file(__file__, "k"),
    "verify_callback": None,
}


def test_each_method_of_the_client_is_called_below() -> None:
    """None is missing and none is gone."""
    assert set(CALLS) == {name for name in dir(StorageClient) if not name.startswith("_")}


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call])
async def test_a_closed_client_refuses(name: str) -> None:
    """Every method that would reach for the store says that the client was closed."""
    layout = Layout(Area("a", "a", access=PublicAccess.read))
    client = StorageClient("memory://b", layout=layout)
    await client.create_bucket()
    await client.close()
    call = CALLS[name]
    assert call is not None
    with pytest.raises(ClientClosed):
        done = call(client)
        if inspect.isasyncgen(done):
            await anext(done)
        elif inspect.isawaitable(done):
            await done

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Retries, bounds and digests, with a gateway that refuses, holds, alters and loses messages."""

import asyncio
import base64
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

import pytest

from forktex_core.storage import (
    AccessDenied,
    ChecksumMismatch,
    S3Credentials,
    StorageClient,
    StorageError,
    StorageUnavailable,
    Transport,
    TruncatedBody,
)
from tests.storage.gateway import Gateway, Message, gateway
from tests.storage.servers import S3
from tests.waiting import eventually

MIB = 1024 * 1024
QUICK = Transport(connect_timeout=5, read_timeout=5, max_retries=3, backoff=0.01)


@pytest.fixture
async def gate(s3: S3) -> AsyncIterator[Gateway]:
    """A gateway to the S3 server."""
    async with gateway(s3.url) as here:
        yield here


@pytest.fixture
async def through(s3: S3, bucket: str, gate: Gateway) -> AsyncIterator[StorageClient]:
    """A client that goes through it, and has found its bucket already."""
    async with s3.client(bucket, endpoint_url=gate.url, transport=QUICK) as client:
        await client.put("k", b"before")
        gate.seen.clear()
        yield client


def pending(s3: S3, bucket: str) -> list[object]:
    """The uploads that were begun and not ended, as boto3 sees them."""
    return list(s3.boto.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


async def listed(store: StorageClient) -> list[str]:
    """All keys."""
    return [info.key async for info in store.list()]


OPERATIONS: dict[str, Callable[[StorageClient], Awaitable[object]]] = {
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "put": lambda store: store.put("new", b"1"),
    "list": listed,
    "delete": lambda store: store.delete("k"),
    "copy": lambda store: store.copy("k", "l"),
    "bucket": lambda store: store.bucket_exists(),
    "cleanup": lambda store: store.cleanup_uploads(),
    "parts": lambda store: store.put("big", b"x" * 17 * MIB),
}


@pytest.mark.parametrize("trouble", [500, 502, 503, 504, 429, "lost"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_passing_trouble_is_tried_again(
    through: StorageClient, gate: Gateway, name: str, trouble: int | str
) -> None:
    """5xx, 429 and a lost connection cost an attempt; the operation succeeds all the same."""
    troubles = 2

    async def refuse(message: Message) -> None:
        nonlocal troubles
        if troubles:
            troubles -= 1
            message.refusal = trouble if isinstance(trouble, int) else None
            message.lost = trouble == "lost"

    gate.before = refuse
    await OPERATIONS[name](through)
    assert troubles == 0
    assert len(gate.seen) > 2


@pytest.mark.parametrize("name", OPERATIONS)
async def test_lasting_trouble_is_reported(
    through: StorageClient, gate: Gateway, name: str
) -> None:
    """After the retries that `Transport` allows, `StorageUnavailable` says what it was about."""

    async def refuse(message: Message) -> None:
        message.refusal = 503

    gate.before = refuse
    with pytest.raises(StorageUnavailable) as failure:
        await OPERATIONS[name](through)
    assert failure.value.bucket == through.bucket
    assert len(gate.seen) == QUICK.max_retries + 1


async def test_refusals_are_not_tried_again(through: StorageClient, gate: Gateway) -> None:
    """What asking again can't change is asked once."""

    async def refuse(message: Message) -> None:
        message.refusal = 403

    gate.before = refuse
    for work in (through.get("k"), through.put("k", b"1"), through.create_bucket()):
        gate.seen.clear()
        with pytest.raises(AccessDenied):
            await work
        assert len(gate.seen) == 1


async def test_requests_at_once_are_bounded(s3: S3, bucket: str, gate: Gateway) -> None:
    """Of fifty reads three are under way at once, as many as `max_concurrency` says."""
    under_way, most, enough = 0, 0, asyncio.Event()

    async def enter(message: Message) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            enough.set()
        await enough.wait()

    async def leave(message: Message) -> None:
        nonlocal under_way
        under_way -= 1

    limited = Transport(max_concurrency=3)
    async with s3.client(bucket, endpoint_url=gate.url, transport=limited) as storage:
        await storage.put("k", b"1")
        gate.before, gate.after = enter, leave
        assert await asyncio.gather(*(storage.get("k") for _ in range(50))) == [b"1"] * 50
    assert most == 3


async def test_parts_go_in_parallel(through: StorageClient, gate: Gateway) -> None:
    """Four parts are under way at once, and no fifth."""
    under_way, most, four = 0, 0, asyncio.Event()

    async def enter(message: Message) -> None:
        nonlocal under_way, most
        if message.is_part:
            under_way += 1
            most = max(most, under_way)
            if under_way == 4:
                four.set()
            await four.wait()

    async def leave(message: Message) -> None:
        nonlocal under_way
        under_way -= message.is_part

    gate.before, gate.after = enter, leave
    body = os.urandom(50 * MIB)
    await through.put("big", body, part_size=5 * MIB)
    assert most == 4
    assert await through.get("big") == body


async def test_a_failed_part_aborts_the_upload(
    through: StorageClient, gate: Gateway, s3: S3
) -> None:
    """When one part is refused for good, all are discarded before the error comes out."""

    async def refuse(message: Message) -> None:
        if message.is_part and "partNumber=3&" in message.path:
            message.refusal = 403

    gate.before = refuse
    with pytest.raises(AccessDenied):
        await through.put("big", b"x" * 40 * MIB)
    assert pending(s3, through.bucket) == []
    assert not await through.exists("big")


async def test_an_abort_is_looked_after(through: StorageClient, gate: Gateway, s3: S3) -> None:
    """A part that arrives after the abort revives the upload in some stores, so that the client
    looks, and aborts again; here the first abort changes nothing."""

    async def pretend(message: Message) -> None:
        if message.method == "DELETE" and gate.count("DELETE") == 1:
            message.refusal = 204
        if message.is_part and "partNumber=2&" in message.path:
            message.refusal = 403

    gate.before = pretend
    with pytest.raises(AccessDenied):
        await through.put("big", b"x" * 17 * MIB)
    assert gate.count("DELETE") == 2
    assert pending(s3, through.bucket) == []


async def test_a_caller_that_goes_while_parts_travel(
    through: StorageClient, gate: Gateway, s3: S3
) -> None:
    """Cancelled amid its parts, the call ends only when they are discarded."""
    held = asyncio.Event()

    async def hold(message: Message) -> None:
        if message.is_part:
            await held.wait()

    gate.before = hold
    upload = asyncio.create_task(through.put("big", b"x" * 40 * MIB))
    await eventually(lambda: sum(m.is_part for m in gate.seen) == 4)
    assert len(pending(s3, through.bucket)) == 1
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    held.set()
    assert pending(s3, through.bucket) == []


@pytest.fixture
def late(gate: Gateway) -> asyncio.Event:
    """The answer to the beginning of an upload is held until this is set."""
    answered = asyncio.Event()

    async def hold(message: Message) -> None:
        if begins(message):
            await answered.wait()

    gate.after = hold
    return answered


def begins(message: Message) -> bool:
    """Whether this asks for the id of a new upload."""
    return message.method == "POST" and message.path.endswith("?uploads=")


async def begun(gate: Gateway, work: Coroutine[None, None, object]) -> asyncio.Task[object]:
    """The work as a task, once the store has begun its upload and the answer is held."""
    task = asyncio.create_task(work)
    await eventually(lambda: any(begins(m) and m.status == 200 for m in gate.seen))
    return task


async def test_a_caller_that_goes_while_the_upload_begins(
    through: StorageClient, gate: Gateway, late: asyncio.Event, s3: S3
) -> None:
    """Cancelled before the store has given the upload's id, the call waits for it and aborts."""
    upload = await begun(gate, through.put("big", b"x" * 17 * MIB))
    assert len(pending(s3, through.bucket)) == 1
    upload.cancel()
    assert await asyncio.wait([upload], timeout=0) == (set(), {upload})
    late.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert pending(s3, through.bucket) == []
    assert not any(message.is_part for message in gate.seen)


async def test_a_caller_that_is_cancelled_twice_while_the_upload_begins(
    through: StorageClient, gate: Gateway, late: asyncio.Event, s3: S3
) -> None:
    """It leaves at once, the abort is left to the client, and closing that waits for it."""
    upload = await begun(gate, through.put("big", b"x" * 17 * MIB))
    for _ in range(2):
        upload.cancel()
        await asyncio.wait([upload], timeout=0)
    with pytest.raises(asyncio.CancelledError):
        await upload
    closing = asyncio.create_task(through.close())
    assert await asyncio.wait([closing], timeout=0) == (set(), {closing})
    late.set()
    await closing
    assert pending(s3, through.bucket) == []


async def test_a_beginning_that_fails_after_its_caller_has_gone(
    through: StorageClient, gate: Gateway, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to abort then, and nobody to tell: the cancellation comes out."""
    refused = asyncio.Event()

    async def refuse(message: Message) -> None:
        if begins(message):
            await refused.wait()
            message.refusal = 403

    gate.before = refuse
    upload = asyncio.create_task(through.put("big", b"x" * 17 * MIB))
    await eventually(lambda: any(map(begins, gate.seen)))
    upload.cancel()
    await asyncio.wait([upload], timeout=0)
    refused.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert pending(s3, through.bucket) == []
    assert caplog.records == []


async def test_an_upload_to_be_resumed_is_kept_when_its_caller_goes_while_it_begins(
    through: StorageClient, gate: Gateway, late: asyncio.Event, s3: S3, tmp_path: Path
) -> None:
    """The call ends at once, and what was begun is there for the next one."""
    (tmp_path / "f").write_bytes(b"x" * 17 * MIB)
    upload = await begun(gate, through.upload_file(tmp_path / "f", "big", resume=True))
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    late.set()
    await through.close()
    assert len(pending(s3, through.bucket)) == 1


async def test_a_lost_answer_of_the_completion(through: StorageClient, gate: Gateway) -> None:
    """The upload is complete although nobody heard it: found by its ETag, it is a success.

    AWS doesn't know the id of a completed upload any more; SeaweedFS does, so that the gateway
    answers the second attempt in its place.
    """

    def completes(message: Message) -> bool:
        return message.method == "POST" and "uploadId=" in message.path

    async def lose(message: Message) -> None:
        message.lost = completes(message)

    async def forget(message: Message) -> None:
        if completes(message) and sum(map(completes, gate.seen)) > 1:
            message.refusal = 404

    gate.before, gate.after = forget, lose
    body = os.urandom(20 * MIB)
    result = await through.put("big", body)
    assert sum(map(completes, gate.seen)) == 2
    assert (await through.head("big")).etag == result.etag
    assert await through.get("big") == body


def flip(body: bytes) -> bytes:
    """The same bytes with one bit changed in their middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


@pytest.mark.parametrize("size", [100, 20 * MIB])
async def test_bytes_altered_on_their_way_in(
    through: StorageClient, gate: Gateway, s3: S3, size: int
) -> None:
    """The store refuses bytes that differ from the digest that went with them."""

    async def alter(message: Message) -> None:
        if message.method == "PUT":
            message.body = flip(message.body)

    gate.before = alter
    with pytest.raises(ChecksumMismatch) as failure:
        await through.put("altered", os.urandom(size))
    assert (failure.value.bucket, failure.value.key) == (through.bucket, "altered")
    assert gate.count("POST", "uploadId=") == 0  # the part itself is refused, not the completion
    assert not await through.exists("altered")
    assert pending(s3, through.bucket) == []


async def test_a_digest_altered_with_the_bytes(through: StorageClient, gate: Gateway) -> None:
    """Whoever alters the bytes can't make their digest fit: it is signed."""

    async def alter(message: Message) -> None:
        if message.method == "PUT":
            message.body = flip(message.body)
            [name] = [name for name in message.headers if name.lower() == "x-amz-checksum-sha256"]
            digest = hashlib.sha256(message.body).digest()
            message.headers[name] = base64.b64encode(digest).decode()

    gate.before = alter
    for size in (100, 20 * MIB):
        with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
            await through.put("altered", os.urandom(size))


@pytest.mark.parametrize("size", [100, 20 * MIB])
async def test_bytes_altered_on_their_way_out(
    through: StorageClient, gate: Gateway, tmp_path: Path, size: int
) -> None:
    """`get(verify=True)` and `download_file` compare with the digest that the store keeps."""
    await through.put("altered", os.urandom(size))

    async def alter(message: Message) -> None:
        if message.method == "GET":
            message.answer = flip(message.answer)

    gate.after = alter
    with pytest.raises(ChecksumMismatch):
        await through.get("altered", verify=True)
    with pytest.raises(ChecksumMismatch):
        await through.download_file("altered", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


async def test_a_body_that_ends_early(
    through: StorageClient, gate: Gateway, tmp_path: Path
) -> None:
    """Shorter bytes than announced, and no more to be had, are `TruncatedBody` in every way."""
    await through.put("cut", b"x" * 1000)

    async def cut(message: Message) -> None:
        if message.method == "GET":
            message.cut = 0 if "bytes=700-" in message.headers.get("Range", "") else 700

    gate.after = cut
    with pytest.raises(TruncatedBody):
        await through.get("cut")
    with pytest.raises(TruncatedBody):
        [piece async for piece in through.stream("cut")]
    with pytest.raises(TruncatedBody):
        await (await through.open("cut")).read()
    with pytest.raises(TruncatedBody):
        await through.download_file("cut", tmp_path / "f")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_body_that_breaks_off_is_gone_on_with(
    through: StorageClient, gate: Gateway, replaced: bool
) -> None:
    """When the connection breaks amid a body, the rest is fetched, never that of another object."""
    body = os.urandom(1000)
    await through.put("cut", body)

    async def cut_once(message: Message) -> None:
        if gate.count("GET") == 1:
            message.cut = 700
            gate.after = Gateway.after
            if replaced:
                await through.put("cut", os.urandom(1000))

    gate.after = cut_once
    if replaced:
        with pytest.raises(TruncatedBody):
            await through.get("cut")
    else:
        assert await through.get("cut") == body
    assert gate.seen[-1].headers["Range"] == "bytes=700-999"


async def test_nothing_secret_is_shown(
    s3: S3, bucket: str, gate: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs nor errors nor reprs hold a secret, a token or a signature."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    for status in (403, 503, 400, 200):

        async def answer(message: Message, status: int = status) -> None:
            message.refusal = status

        gate.before = answer
        keys = S3Credentials("AK", "very-secret", "the-session-token")
        quick = Transport(max_retries=1, backoff=0.01)
        async with s3.client(bucket, credentials=keys, endpoint_url=gate.url, transport=quick) as c:
            for work in OPERATIONS.values():
                try:
                    await work(c)
                except StorageError as error:
                    said += [str(error), repr(error), str(vars(error))]
            said += [repr(c), repr(keys), repr(c._connection), await c.signed_url("k")]
    *shown, _ = said
    everything = caplog.text + "".join(text for text in said if not text.startswith("http"))
    assert len(shown) > 20
    for secret in ("very-secret", "the-session-token", "Signature=", "AWS4-HMAC"):
        assert secret not in everything

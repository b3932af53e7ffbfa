# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One suite that every backend passes."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forktex_core.storage import (
    AlreadyExists,
    BucketNotFound,
    ChecksumMismatch,
    CommonPrefix,
    InvalidRange,
    NotFound,
    PreconditionFailed,
    StorageClient,
    Unsupported,
)

MIB = 1024 * 1024


async def test_what_was_put_is_got(store: StorageClient) -> None:
    """Bytes and text come back as they were, with size, ETag and time."""
    result = await store.put("a/b c+ü~'.txt", "grüße")
    assert await store.get("a/b c+ü~'.txt") == "grüße".encode()
    info = await store.head("a/b c+ü~'.txt")
    assert (info.key, info.size, info.etag) == ("a/b c+ü~'.txt", 7, result.etag)
    assert info.last_modified.tzinfo is not None


async def test_attributes_survive(store: StorageClient) -> None:
    """Content type, cache control, disposition and metadata are given back."""
    await store.put(
        "x.bin", b"1", content_type="image/png", cache_control="max-age=60",
        content_disposition="inline", metadata={"order_id": "42", "note": "a b"},
    )  # fmt: skip
    info = await store.head("x.bin")
    assert (info.content_type, info.cache_control, info.content_disposition) == (
        "image/png", "max-age=60", "inline",
    )  # fmt: skip
    assert dict(info.metadata) == {"order_id": "42", "note": "a b"}


async def test_overwriting_replaces(store: StorageClient) -> None:
    """The last write wins, with its own attributes."""
    await store.put("k", b"one", metadata={"v": "1"})
    await store.put("k", b"three")
    assert await store.get("k") == b"three"
    assert dict((await store.head("k")).metadata) == {}


async def test_empty_object(store: StorageClient) -> None:
    """No bytes are an object as well."""
    await store.put("empty", b"")
    assert await store.get("empty") == b""
    assert (await store.head("empty")).size == 0
    assert [piece async for piece in store.stream("empty")] == []


async def test_ranges(store: StorageClient) -> None:
    """Start, end and negative start mean what they mean in HTTP; outside is `InvalidRange`."""
    await store.put("r", b"0123456789")
    assert await store.get("r", start=3) == b"3456789"
    assert await store.get("r", start=3, end=5) == b"34"
    assert await store.get("r", start=0, end=4) == b"0123"
    assert await store.get("r", start=-3) == b"789"
    assert await store.get("r", start=8, end=99) == b"89"
    assert b"".join([piece async for piece in store.stream("r", start=2, end=9)]) == b"2345678"
    with pytest.raises(InvalidRange):
        await store.get("r", start=10, end=12)


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for index, size in enumerate(sizes):
        yield bytes([index]) * size


async def test_sources(store: StorageClient, tmp_path: Path) -> None:
    """Files, async and plain iterators, views and byte arrays are sources."""
    expected = b"\0" * 3 + b"\1" * 5
    (tmp_path / "f").write_bytes(expected)

    class AsyncFile:
        def __init__(self) -> None:
            self._file = io.BytesIO(expected)

        async def read(self, size: int = -1, /) -> bytes:
            return self._file.read(min(size, 3))

    await store.put("async", pieces(3, 5))
    await store.put("async file", AsyncFile())
    await store.put("iterator", iter([b"\0" * 3, b"\1" * 5]))
    await store.put("bytesio", io.BytesIO(expected))
    await store.put("view", memoryview(expected))
    await store.put("array", bytearray(expected))
    with (tmp_path / "f").open("rb") as file:
        await store.put("file", file)
    for key in ("async", "async file", "iterator", "bytesio", "view", "array", "file"):
        assert await store.get(key) == expected


async def test_a_large_object_goes_in_parts(store: StorageClient) -> None:
    """20 MiB from memory, and as a stream of odd pieces, come back whole, with attributes."""
    body = os.urandom(20 * MIB + 7)
    await store.put("mem", body, metadata={"a": "b"}, content_type="image/png")

    async def odd() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 777_777):
            yield body[start : start + 777_777]

    result = await store.put("str", odd(), content_type="image/png")
    assert result.size == len(body)
    for key in ("mem", "str"):
        digest = hashlib.sha256()
        async for piece in store.stream(key):
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(body).digest()
        assert (await store.head(key)).content_type == "image/png"
    assert dict((await store.head("mem")).metadata) == {"a": "b"}


@pytest.mark.parametrize("size", [3, 17 * MIB])
async def test_create_only(store: StorageClient, size: int) -> None:
    """``if_none_match="*"`` stores once, whole and in parts, and leaves the first object alone."""
    await store.put("once", b"x" * size, if_none_match="*")
    with pytest.raises(AlreadyExists) as failure:
        await store.put("once", b"y" * size, if_none_match="*")
    assert failure.value.key == "once"
    assert (await store.get("once", end=1)) == b"x"


async def test_only_one_of_many_creators_wins(store: StorageClient) -> None:
    """Of ten concurrent creators exactly one succeeds, and its bytes are there."""

    async def create(number: int) -> int | None:
        try:
            await store.put("race", str(number), if_none_match="*")
        except AlreadyExists:
            return None
        return number

    winners = [n for n in await asyncio.gather(*map(create, range(10))) if n is not None]
    assert len(winners) == 1
    assert await store.get("race") == str(winners[0]).encode()


async def test_replace_exactly_one_version(store: StorageClient) -> None:
    """``if_match`` replaces the object with that ETag only, and needs one."""
    first = await store.put("v", b"1")
    second = await store.put("v", b"22", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await store.put("v", b"333", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        await store.put("w", b"333", if_match=second.etag)
    assert await store.get("v", if_match=second.etag) == b"22"
    with pytest.raises(PreconditionFailed):
        await store.get("v", if_match=first.etag)


async def test_missing_objects(store: StorageClient) -> None:
    """Reading what is not there is `NotFound` with bucket and key; deleting it is fine."""
    for reading in (store.get("no"), store.head("no"), store.open("no"), store.copy("no", "b")):
        with pytest.raises(NotFound) as failure:
            await reading
        assert (failure.value.bucket, failure.value.key) == (store.bucket, "no")
    assert not await store.exists("no")
    await store.delete("no")
    await store.put("yes", b"1")
    await store.delete_many(["no", "yes", "neither"])
    assert not await store.exists("yes")


async def test_a_missing_bucket_is_told_apart(store: StorageClient) -> None:
    """No operation takes a missing bucket for a missing key, and none creates it."""
    other = store.in_bucket(f"{store.bucket}-no")

    async def listing() -> None:
        [info async for info in other.list()]

    attempts = (
        lambda: other.get("k"),
        lambda: other.head("k"),
        lambda: other.put("k", b""),
        lambda: other.exists("k"),
        lambda: other.put("k", b"x" * 17 * MIB),
        lambda: other.delete("k"),
        lambda: other.copy("k", "l"),
        listing,
    )
    for attempt in attempts:
        with pytest.raises(BucketNotFound):
            await attempt()
    assert not await other.bucket_exists()
    await other.create_bucket()
    await other.put("k", b"1")
    assert await other.get("k") == b"1"


async def test_listing(store: StorageClient) -> None:
    """Prefixes are strings, not folders; keys come in order; a delimiter folds."""
    keys = ["a-b/1", "a/1", "a/12", "a/2/x", "b/1", "ab"]
    for key in keys:
        await store.put(key, b"1")
    assert sorted([info.key async for info in store.list()]) == sorted(keys)
    assert [info.key async for info in store.list("a-")] == ["a-b/1"]
    assert [info.key async for info in store.list("a/1")] == ["a/1", "a/12"]
    assert [info.key async for info in store.list("a/")] == ["a/1", "a/12", "a/2/x"]
    assert [info.key async for info in store.list("a/", start_after="a/1")] == ["a/12", "a/2/x"]
    assert [info.key async for info in store.list("zz")] == []
    level = [entry async for entry in store.list("a/", delimiter="/")]
    assert [e.prefix for e in level if isinstance(e, CommonPrefix)] == ["a/2/"]
    assert [e.key for e in level if not isinstance(e, CommonPrefix)] == ["a/1", "a/12"]
    with pytest.raises(ValueError, match="delimiter"):
        [entry async for entry in store.list("a", delimiter=":")]  # type: ignore[call-overload]


async def test_copy_and_move(store: StorageClient) -> None:
    """Attributes go along; moving leaves nothing behind; a condition on the target is honoured."""
    await store.put("s", b"body", content_type="image/png", metadata={"a": "1"})
    await store.copy("s", "t/c")
    info = await store.head("t/c")
    assert (info.content_type, dict(info.metadata), await store.get("t/c")) == (
        "image/png",
        {"a": "1"},
        b"body",
    )
    with pytest.raises(AlreadyExists):
        await store.copy("s", "t/c", if_none_match="*")
    await store.move("s", "u", if_none_match="*")
    assert not await store.exists("s")
    assert (await store.head("u")).content_type == "image/png"
    await store.move("u", "u")
    assert await store.get("u") == b"body"


async def test_delete_prefix(store: StorageClient) -> None:
    """A dry run tells and keeps, the real one deletes the same; an empty prefix is refused."""
    for key in ("p/1", "p/2", "q/1"):
        await store.put(key, b"12")
    told = await store.delete_prefix("p/", dry_run=True)
    assert (told.objects, told.bytes, told.dry_run) == (2, 4, True)
    assert await store.exists("p/1")
    assert (await store.delete_prefix("p/")).objects == 2
    assert [info.key async for info in store.list()] == ["q/1"]
    with pytest.raises(ValueError, match="would empty the bucket"):
        await store.delete_prefix("")


@pytest.mark.parametrize("store", ["s3", "memory"], indirect=True)
async def test_more_than_a_page(store: StorageClient) -> None:
    """A thousand keys and more are listed, and deleted by an async iterator and by prefix."""

    async def put(number: int) -> None:
        await store.put(f"many/{number:04}", b"1")

    await asyncio.gather(*map(put, range(1_010)))
    keys = [info.key async for info in store.list("many/")]
    assert keys == [f"many/{number:04}" for number in range(1_010)]
    after = [info.key async for info in store.list("many/", start_after="many/0950")]
    assert after == keys[951:]

    async def some() -> AsyncIterator[str]:
        for key in keys[:50]:
            yield key

    await store.delete_many(some())
    assert (await store.delete_prefix("many/")).objects == 960
    assert [info.key async for info in store.list()] == []


async def test_open_reads_like_a_file(store: StorageClient) -> None:
    """Seek, read, tell; a replaced object is never mixed in."""
    await store.put("f", bytes(range(100)))
    async with await store.open("f", buffer=10) as file:
        assert await file.read(4) == bytes(range(4))
        assert file.seek(-2, io.SEEK_END) == 98
        assert await file.read() == bytes([98, 99])
        assert await file.read() == b""
        file.seek(0)
        await store.put("f", b"other")
        with pytest.raises(PreconditionFailed):
            await file.read(50)
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)


async def test_files_up_and_down(store: StorageClient, tmp_path: Path) -> None:
    """A file makes the round trip, reports progress, and resumes where it was interrupted."""
    body = os.urandom(3 * MIB)
    (tmp_path / "up").write_bytes(body)
    seen: list[tuple[int, int]] = []
    await store.upload_file(
        tmp_path / "up", "f.bin", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (len(body), len(body))

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done >= MIB:
            raise Interrupted

    with pytest.raises(Interrupted):
        await store.download_file("f.bin", tmp_path / "down", progress=interrupt)
    assert not (tmp_path / "down").exists()
    seen.clear()
    await store.download_file("f.bin", tmp_path / "down", progress=lambda d, t: seen.append((d, t)))
    assert (tmp_path / "down").read_bytes() == body
    assert seen[0][0] > MIB
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["down", "up"]


async def test_a_producers_digest_is_enforced(store: StorageClient) -> None:
    """With a wrong ``sha256`` nothing is stored, from memory and from a stream."""
    right = hashlib.sha256(b"right").hexdigest()
    await store.put("ok", b"right", sha256=right)
    big = b"x" * 17 * MIB
    for source in (b"wrong", pieces(3), big, iter([big])):
        with pytest.raises(ChecksumMismatch):
            await store.put("bad", source, sha256=right)
    assert not await store.exists("bad")


async def test_verify_compares_with_what_the_store_keeps(store: StorageClient) -> None:
    """``verify`` passes for right bytes; where a store keeps no digest, it says so."""
    await store.put("v", b"verified")
    assert await store.get("v", verify=True) == b"verified"
    body = os.urandom(17 * MIB)
    await store.put("big", body)
    try:
        assert await store.get("big", verify=True) == body
    except Unsupported:
        assert repr(store).startswith(("StorageClient('az:", "StorageClient('gs:"))
    with pytest.raises(ValueError, match="whole object"):
        await store.get("v", start=1, verify=True)


async def test_a_failing_source_stores_nothing(store: StorageClient) -> None:
    """When the source fails amid the parts, its error comes out and no object is there."""

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * MIB
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="disk went away"):
        await store.put("broken", broken())
    assert not await store.exists("broken")


async def test_a_prefix_of_the_endpoint_is_not_shown(store: StorageClient) -> None:
    """A view on a prefix neither shows the prefix nor sees beside it."""
    view = store._view(store.bucket, "in/side/")
    await view.put("k", b"1")
    assert await store.get("in/side/k") == b"1"
    await store.put("in/other", b"2")
    assert [info.key async for info in view.list()] == ["k"]
    assert [info.key async for info in view.list(delimiter="/")] == ["k"]
    assert (await view.head("k")).key == "k"
    await view.copy("k", "l")
    assert await store.exists("in/side/l")


async def test_content_types_are_found(store: StorageClient) -> None:
    """The bytes decide, then the name; what a browser would run becomes an attachment."""
    await store.put("noname", b"%PDF-1.7 ...")
    await store.put("page", b"<!DOCTYPE html><script>alert(1)</script>")
    await store.put("shown.html", b"<html></html>", content_disposition="inline")
    assert (await store.head("noname")).content_type == "application/pdf"
    page = await store.head("page")
    assert (page.content_type, page.content_disposition) == ("text/html", "attachment")
    assert (await store.head("shown.html")).content_disposition == "inline"

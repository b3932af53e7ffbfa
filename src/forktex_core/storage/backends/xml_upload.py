# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Multipart uploads in the XML that S3 and Google Cloud Storage have in common.

Protocol. POST ?uploads gives an id; each part is a PUT with its number and that id, and answers
with an ETag; POST with the list of parts makes the object. Nothing is visible before. A DELETE of
the id discards the parts; a part that was still being received may survive it, so we look for
leftovers and delete again.

An upload that is resumed lists the parts that are there; one whose ETag is the MD5 of the bytes at
hand is taken as it is, any other is sent again under its number.

A completion whose answer was lost may have happened: the id is unknown then, and the object that is
there has the ETag which follows from the parts (the MD5 of their MD5s, with their number).
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Protocol
from xml.etree import ElementTree as ET

from forktex_core.storage.errors import NotFound, StorageError, StorageUnavailable
from forktex_core.storage.http import Reply
from forktex_core.storage.objects import PendingUpload

from .engine import bare
from .protocol import Body

_ABORTS = 4
_OFF_LOOP = 256 * 1024


class Send(Protocol):
    """Sends a signed request; ``digest`` is the hex SHA-256 of the body if it is known."""

    async def __call__(
        self,
        method: str,
        key: str | None,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        digest: str | None = None,
    ) -> Reply:
        """Return the answer, whatever its status."""


class XmlUpload:
    """One multipart upload; ``conditions`` are headers of the provider for its completion."""

    def __init__(
        self,
        send: Send,
        *,
        bucket: str,
        key: str,
        upload_id: str,
        checksums: bool,
        conditions: Mapping[str, str],
        current_etag: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self._send = send
        self._bucket, self._key = bucket, key
        self._id = {"uploadId": upload_id}
        self._checksums = checksums
        self._conditions = conditions
        self._current_etag = current_etag
        self._parts: dict[int, tuple[str, str]] = {}
        self._there: dict[int, str] = {}

    async def look(self) -> None:
        """Find out which parts the store has already."""
        marker = {"part-number-marker": "0"}
        while True:
            reply = await self._send("GET", self._key, parameters={**self._id, **marker})
            root = parsed(reply, bucket=self._bucket, key=self._key)
            for part in root.iterfind("{*}Part"):
                number = int(part.findtext("{*}PartNumber") or 0)
                self._there[number] = bare(part.findtext("{*}ETag")) or ""
            if root.findtext("{*}IsTruncated") != "true":
                return
            marker["part-number-marker"] = root.findtext("{*}NextPartNumberMarker") or ""

    async def part(self, number: int, data: Body) -> None:
        """Store one part, with a digest that the store checks."""
        digest, headers = await off_loop(len(data), _part_digest, data, self._checksums)
        checksum = headers.get("x-amz-checksum-sha256", "")
        there = self._there.get(number)
        if there is not None and there == await off_loop(len(data), _md5, data):
            self._parts[number] = (there, checksum)
            return
        reply = await self._send(
            "PUT",
            self._key,
            parameters={"partNumber": str(number), **self._id},
            headers=headers,
            body=data,
            digest=digest,
        )
        reply.raise_for_refusal(bucket=self._bucket, key=self._key)
        self._parts[number] = (bare(reply.headers.get("etag")) or "", checksum)

    async def complete(self) -> str | None:
        """Make the object; a lost answer is looked up."""
        reply = await self._send(
            "POST", self._key, parameters=self._id, headers=self._conditions, body=self._document()
        )
        try:
            reply.raise_for_refusal(bucket=self._bucket, key=self._key)
        except (NotFound, StorageUnavailable):
            if await self._current_etag(self._key) != self._expected():
                raise
            return self._expected()
        return bare(parsed(reply, bucket=self._bucket, key=self._key).findtext("{*}ETag"))

    def _document(self) -> bytes:
        root = ET.Element("CompleteMultipartUpload")
        for number, (etag, checksum) in sorted(self._parts.items()):
            part = ET.SubElement(root, "Part")
            ET.SubElement(part, "PartNumber").text = str(number)
            ET.SubElement(part, "ETag").text = f'"{etag}"'
            if checksum:
                ET.SubElement(part, "ChecksumSHA256").text = checksum
        return ET.tostring(root)

    def _expected(self) -> str | None:
        try:
            digests = b"".join(
                bytes.fromhex(self._parts[number][0]) for number in sorted(self._parts)
            )
        except ValueError:
            return None
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"

    async def abort(self) -> None:
        """Discard the parts, also those that arrive late."""
        for _ in range(_ABORTS):
            await self._send("DELETE", self._key, parameters=self._id)
            left = await self._send("GET", self._key, parameters=self._id)
            if left.status == HTTPStatus.NOT_FOUND:
                return
        left.raise_for_refusal(bucket=self._bucket, key=self._key)
        raise StorageError(
            f"The parts of an upload of {self._key!r} "
            "could not be discarded; run cleanup_uploads() later.",
            bucket=self._bucket,
            key=self._key,
        )


def parsed(reply: Reply, *, bucket: str, key: str | None) -> "ET.Element":
    """Return the XML of an answer, or raise what its refusal means."""
    body = reply.raise_for_refusal(bucket=bucket, key=key).body
    try:
        return ET.fromstring(body)  # noqa: S314  # of a store that was chosen and authenticated
    except ET.ParseError as exc:
        raise StorageError(
            f"The answer about bucket {bucket!r} is not XML ({body[:40]!r}): "
            "does endpoint_url name a store of this kind?",
            bucket=bucket,
            key=key,
        ) from exc


async def newest(uploads: AsyncIterator[PendingUpload], key: str) -> str | None:
    """Return the id of the upload of exactly this key that was begun last."""
    found = [pending async for pending in uploads if pending.key == key]
    return max(found, key=lambda pending: pending.started).upload_id if found else None


def _md5(data: Body) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _part_digest(data: Body, checksums: bool) -> tuple[str, dict[str, str]]:  # runs in a thread
    digest = sha256(data)
    if checksums:
        return digest.hexdigest(), {
            "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode()
        }
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return digest.hexdigest(), {"content-md5": base64.b64encode(md5).decode()}


async def off_loop[**P, T](
    size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a computation over ``size`` bytes, in a thread if it would hold the event loop up."""
    if size < _OFF_LOOP:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


async def begin(send: Send, *, bucket: str, key: str, headers: Mapping[str, str]) -> str:
    """Begin a multipart upload; return its id."""
    reply = await send("POST", key, parameters={"uploads": ""}, headers=headers)
    upload_id = parsed(reply, bucket=bucket, key=key).findtext("{*}UploadId")
    if not upload_id:
        raise StorageError(
            f"The store gave no id for an upload of {key!r}.", bucket=bucket, key=key
        )
    return upload_id


async def pending(send: Send, *, bucket: str, prefix: str) -> AsyncIterator[PendingUpload]:
    """Yield the uploads that were begun and neither completed nor aborted."""
    parameters = {"uploads": "", "prefix": prefix}
    while True:
        reply = await send("GET", None, parameters=parameters)
        root = parsed(reply, bucket=bucket, key=None)
        for found in root.iterfind("{*}Upload"):
            started = datetime.fromisoformat(found.findtext("{*}Initiated") or "")
            yield PendingUpload(
                found.findtext("{*}Key") or "", found.findtext("{*}UploadId") or "", started
            )
        if root.findtext("{*}IsTruncated") != "true":
            return
        parameters["key-marker"] = root.findtext("{*}NextKeyMarker") or ""
        parameters["upload-id-marker"] = root.findtext("{*}NextUploadIdMarker") or ""

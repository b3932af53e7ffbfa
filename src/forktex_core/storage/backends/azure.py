# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Azure Blob Storage: the bucket is a container, parts are blocks.

Blocks that are never committed cannot be discarded one by one; Azure drops them after a week. The
id of a block holds its number and the MD5 of its bytes: two uploads to one key don't mix, and one
that is resumed knows which blocks are there.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from forktex_core.storage.access import PublicAccess
from forktex_core.storage.credentials import AzureCredentials, CredentialSource
from forktex_core.storage.errors import NotFound
from forktex_core.storage.http import HttpChannel, Reply, Request
from forktex_core.storage.objects import (
    Attributes,
    CommonPrefix,
    Condition,
    Digest,
    ObjectInfo,
    PendingUpload,
)
from forktex_core.storage.refusals import missing_bucket
from forktex_core.storage.signing import azure
from forktex_core.storage.signing.v4 import encode_path, encode_query
from forktex_core.storage.transport import Transport

from .address import Address
from .engine import Engine, EngineDownload, bare, client_options, retry_config
from .gcs import delete_leniently
from .protocol import Body, LinkRequest, PartLimits, SignedURL, unsupported
from .s3 import MIB, anonymous_read
from .xml_upload import off_loop, parsed

if TYPE_CHECKING:
    from obstore.store import AzureStore


class AzureBackend:
    """One container."""

    scheme = "az"
    parts = PartLimits(smallest=1, largest=4000 * MIB, count=50_000)
    max_link_seconds = azure.MAX_SECONDS
    max_copy_bytes = None

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None,
        source: CredentialSource[AzureCredentials],
        channel: HttpChannel,
        transport: Transport,
    ) -> None:
        account = source.static
        if endpoint_url is None and account is None:
            raise ValueError(
                "az:// needs AzureCredentials, or endpoint_url= with the account's address."
            )
        self.bucket = bucket
        self._source = source
        self._channel = channel
        endpoint = (
            endpoint_url or f"https://{account.account if account else ''}.blob.core.windows.net"
        )
        self._address = Address.of(endpoint, bucket)
        self._engine = Engine(_store(endpoint, bucket, source, transport), bucket, channel.slots)

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store a blob; its MD5 goes along and is checked by the store."""
        headers = {
            **_attribute_headers(attributes),
            **_condition_headers(condition),
            **await _md5(body),
        }
        headers["x-ms-blob-type"] = "BlockBlob"
        reply = await self.send("PUT", key, headers=headers, body=body)
        return bare(reply.raise_for_refusal(bucket=self.bucket, key=key).headers.get("etag"))

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> "BlockUpload":
        """Begin to stage blocks."""
        return BlockUpload(self, key, attributes, condition)

    async def resume(self, key: str, attributes: Attributes, condition: Condition) -> "BlockUpload":
        """Stage what is not staged already."""
        upload = BlockUpload(self, key, attributes, condition)
        await upload.look()
        return upload

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> EngineDownload:
        """Begin to read; Azure knows no suffix ranges, so the end is looked up."""
        if start < 0:
            info = await self.head(key)
            start, etag = max(info.size + start, 0), etag or info.etag
        return await self._engine.get(key, start=start, end=end, etag=etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known; a HEAD that finds nothing doesn't say whether the container is
        there.
        """
        try:
            return await self._engine.head(key)
        except NotFound:
            if not await self.bucket_exists():
                raise missing_bucket(self.bucket, key) from None
            raise

    async def digest(self, key: str) -> Digest | None:
        """Return the stored MD5, which blobs made of blocks lack."""
        reply = (await self.send("HEAD", key)).raise_for_refusal(bucket=self.bucket, key=key)
        value = reply.headers.get("content-md5")
        return Digest("md5", base64.b64decode(value)) if value else None

    def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages."""
        return self._engine.list(prefix, start_after)

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level."""
        return await self._engine.list_level(prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete, 256 with each request; the store minds missing blobs, so they are passed over one
        by one.
        """
        await delete_leniently(self, self._engine, keys)

    async def copy(self, source: str, target: str) -> None:
        """Copy within the account."""
        await self._engine.copy(source, target)

    async def bucket_exists(self) -> bool:
        """Ask; a refusal for lack of rights means that it is there."""
        reply = await self.send("HEAD", None, parameters={"restype": "container"})
        if reply.status not in (403, 404):
            reply.raise_for_refusal(bucket=self.bucket, key=None)
        return reply.status != HTTPStatus.NOT_FOUND

    async def create_bucket(self) -> None:
        """Create the container."""
        reply = await self.send("PUT", None, parameters={"restype": "container"})
        if reply.status != HTTPStatus.CONFLICT or "ContainerAlreadyExists" not in reply.text:
            reply.raise_for_refusal(bucket=self.bucket, key=None)

    def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Refuse: there is nothing to clean up."""
        raise unsupported(
            self.scheme,
            f"list uploads of {prefix!r}",
            "Azure drops uncommitted blocks after a week",
            bucket=self.bucket,
        )

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Refuse, like `pending_uploads`."""
        raise unsupported(
            self.scheme,
            "discard uncommitted blocks",
            "Azure drops them after a week",
            bucket=self.bucket,
            key=pending.key,
        )

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Open or close the whole container; stored access policies are kept."""
        if prefix or access is PublicAccess.write:
            raise unsupported(
                self.scheme,
                f"open the prefix {prefix!r} ({access})",
                "only a whole container can be made readable: use a container of its own",
                bucket=self.bucket,
            )
        parameters = {"restype": "container", "comp": "acl"}
        now = (await self.send("GET", None, parameters=parameters)).raise_for_refusal(
            bucket=self.bucket, key=None
        )
        headers = {"x-ms-blob-public-access": "blob"} if access is PublicAccess.read else {}
        reply = await self.send(
            "PUT",
            None,
            parameters=parameters,
            headers={**headers, "content-type": "application/xml"},
            body=now.body,
        )
        reply.raise_for_refusal(bucket=self.bucket, key=None)

    async def is_public(self, key: str) -> bool:
        """Ask without credentials."""
        await self.head(key)
        return await anonymous_read(
            self._channel, self._address.url(key), bucket=self.bucket, key=key
        )

    async def send(
        self,
        method: str,
        key: str | None,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> Reply:
        """Send a request with Shared Key authorization."""
        path = encode_path(self._address.path(key))
        query = encode_query(parameters or {})
        url = self._address.origin + path + (f"?{query}" if query else "")

        async def make() -> Request:
            if self._source.anonymous:
                return Request(method, url, headers or {}, body)
            signed = azure.shared_key_headers(
                method,
                credentials=await self._source.get(),
                path=path,
                parameters=parameters or {},
                headers=headers or {},
                length=len(body),
                moment=datetime.now(UTC),
            )
            return Request(method, url, signed, body)

        return await self._channel.send(make)

    def url(self, key: str, endpoint_url: str | None) -> str:
        """Return the plain address."""
        return (Address.of(endpoint_url, self.bucket) if endpoint_url else self._address).url(key)

    async def sign(self, link: LinkRequest, endpoint_url: str | None) -> SignedURL:
        """Return a URL with a service SAS; Azure signs neither a size nor the type of what is
        stored.
        """
        writing = link.access is PublicAccess.write
        if link.max_bytes is not None or (writing and link.content_type):
            raise unsupported(
                self.scheme,
                "limit the size or type of an upload by URL",
                "check the blob after the upload, or store it by put()",
                bucket=self.bucket,
                key=link.key,
            )
        address = Address.of(endpoint_url, self.bucket) if endpoint_url else self._address
        query = azure.sas_query(
            credentials=await self._source.get(),
            container=self.bucket,
            key=link.key,
            permissions="cw" if writing else "r",
            start=link.begins,
            expires=link.expires,
            content_disposition=link.content_disposition or "",
            content_type=link.content_type or "",
            protocol="https" if address.scheme == "https" else "https,http",
        )
        return SignedURL(
            f"{address.url(link.key)}?{query}",
            method="PUT" if writing else "GET",
            headers={"x-ms-blob-type": "BlockBlob"} if writing else {},
            expires_at=link.expires,
        )

    async def close(self) -> None:
        """Nothing of its own is open."""


class BlockUpload:
    """Blocks that become a blob when their list is committed."""

    def __init__(
        self, backend: AzureBackend, key: str, attributes: Attributes, condition: Condition
    ) -> None:
        self._backend = backend
        self._key = key
        self._attributes, self._condition = attributes, condition
        self._there: set[str] = set()
        self._blocks: dict[int, str] = {}

    async def look(self) -> None:
        """Find out which blocks are staged already."""
        parameters = {"comp": "blocklist", "blocklisttype": "uncommitted"}
        reply = await self._backend.send("GET", self._key, parameters=parameters)
        if reply.status == HTTPStatus.NOT_FOUND and "BlobNotFound" in reply.text:
            return
        root = parsed(reply, bucket=self._backend.bucket, key=self._key)
        self._there = {name.text or "" for name in root.iterfind(".//Block/Name")}

    async def part(self, number: int, data: Body) -> None:
        """Stage one block."""
        headers = await _md5(data)
        block = base64.b64encode(f"{number:06d}-{headers['content-md5']}".encode()).decode()
        if block not in self._there:
            parameters = {"comp": "block", "blockid": block}
            reply = await self._backend.send(
                "PUT", self._key, parameters=parameters, headers=headers, body=data
            )
            reply.raise_for_refusal(bucket=self._backend.bucket, key=self._key)
        self._blocks[number] = block

    async def complete(self) -> str | None:
        """Commit the blocks in the order of their numbers."""
        root = ET.Element("BlockList")
        for _, block in sorted(self._blocks.items()):
            ET.SubElement(root, "Uncommitted").text = block
        body = ET.tostring(root)
        headers = {
            **_attribute_headers(self._attributes),
            **_condition_headers(self._condition),
            **await _md5(body),
        }
        reply = await self._backend.send(
            "PUT", self._key, parameters={"comp": "blocklist"}, headers=headers, body=body
        )
        return bare(
            reply.raise_for_refusal(bucket=self._backend.bucket, key=self._key).headers.get("etag")
        )

    async def abort(self) -> None:
        """Leave the blocks to Azure, which drops them after a week."""


def _attribute_headers(attributes: Attributes) -> dict[str, str]:
    headers = {f"x-ms-blob-{name.lower()}": value for name, value in attributes.headers().items()}
    return headers | {f"x-ms-meta-{name}": value for name, value in attributes.metadata.items()}


def _condition_headers(condition: Condition) -> dict[str, str]:
    if condition.create:
        return {"if-none-match": "*"}
    return {"if-match": f'"{condition.etag}"'} if condition.is_set else {}


async def _md5(body: Body) -> dict[str, str]:
    digest = await off_loop(len(body), lambda: hashlib.md5(body, usedforsecurity=False).digest())
    return {"content-md5": base64.b64encode(digest).decode()}


def _store(
    endpoint: str, bucket: str, source: CredentialSource[AzureCredentials], transport: Transport
) -> "AzureStore":
    """Return the engine's store. Every setting is given, since the engine takes missing ones from
    the environment.
    """
    from obstore.store import AzureStore

    async def credential() -> Any:
        current = await source.get()
        return {"access_key": current.account_key, "expires_at": current.expires_at}

    static = source.static
    return AzureStore(
        bucket,
        config={
            "account_name": static.account
            if static
            else endpoint.partition("://")[2].partition(".")[0],
            "endpoint": endpoint,
            "skip_signature": source.anonymous,
            "use_emulator": False,
        },
        credential_provider=None if source.anonymous else credential,
        client_options=client_options(transport, http=endpoint.startswith("http://")),
        retry_config=retry_config(transport),
    )

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""S3 and what speaks like it: AWS, MinIO, SeaweedFS, Ceph, R2."""

import base64
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from forktex_core.storage import bucket_policy
from forktex_core.storage.access import PublicAccess
from forktex_core.storage.credentials import CredentialSource, S3Credentials
from forktex_core.storage.errors import NotFound, StorageError
from forktex_core.storage.http import HttpChannel, Reply, Request
from forktex_core.storage.objects import (
    ALWAYS,
    Attributes,
    CommonPrefix,
    Condition,
    Digest,
    ObjectInfo,
    PendingUpload,
)
from forktex_core.storage.refusals import missing_bucket
from forktex_core.storage.signing import post_policy, sigv4
from forktex_core.storage.signing.v4 import encode_path, encode_query
from forktex_core.storage.transport import Transport

from . import xml_upload
from .address import Address
from .engine import Engine, EngineDownload, client_options, retry_config
from .protocol import Body, LinkRequest, PartLimits, SignedURL
from .xml_upload import XmlUpload, off_loop

if TYPE_CHECKING:
    from obstore.store import S3Store

MIB = 1024 * 1024
_KNOWN_FOR = 30.0
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class S3Backend:
    """One bucket over SigV4."""

    scheme = "s3"
    parts = PartLimits(smallest=5 * MIB, largest=5 * 1024 * MIB, count=10_000)
    max_link_seconds = sigv4.MAX_SECONDS
    max_copy_bytes = 5 * 1024 * MIB

    def __init__(
        self,
        bucket: str,
        *,
        region: str,
        endpoint_url: str | None,
        virtual_hosted: bool | None,
        source: CredentialSource[S3Credentials],
        channel: HttpChannel,
        transport: Transport,
    ) -> None:
        self.bucket = bucket
        self._region = region
        self._source = source
        self._channel = channel
        dns = _DNS_BUCKET.fullmatch(bucket) is not None
        self._virtual = (endpoint_url is None and dns) if virtual_hosted is None else virtual_hosted
        self._address = self._at(endpoint_url or f"https://s3.{region}.amazonaws.com")
        store = _store(self._address, bucket, region, source, transport, virtual=self._virtual)
        self._engine = Engine(store, bucket, channel.slots)
        self._known_until = 0.0

    def _at(self, endpoint_url: str) -> Address:
        return Address.of(endpoint_url, self.bucket, virtual=self._virtual)

    # Objects

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object; its SHA-256 goes along and is checked by the store."""
        await self._require_bucket(key)
        return await self._engine.put(key, body, attributes, condition)

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> XmlUpload:
        """Begin a multipart upload whose parts carry their SHA-256."""
        await self._require_bucket(key)
        headers = {name.lower(): value for name, value in attributes.headers().items()}
        headers |= {f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()}
        headers["x-amz-checksum-algorithm"] = "SHA256"
        upload_id = await xml_upload.begin(self._send, bucket=self.bucket, key=key, headers=headers)
        return self._upload(key, upload_id, condition)

    async def resume(self, key: str, attributes: Attributes, condition: Condition) -> XmlUpload:
        """Go on with the upload that was begun last, or begin one."""
        await self._require_bucket(key)
        found = await xml_upload.newest(self.pending_uploads(key), key)
        if found is None:
            return await self.begin(key, attributes, condition)
        upload = self._upload(key, found, condition)
        await upload.look()
        return upload

    def _upload(self, key: str, upload_id: str, condition: Condition = ALWAYS) -> XmlUpload:
        return XmlUpload(
            self._send,
            bucket=self.bucket,
            key=key,
            upload_id=upload_id,
            checksums=True,
            conditions=_condition_headers(condition),
            current_etag=self._current_etag,
        )

    async def _current_etag(self, key: str) -> str | None:
        try:
            return (await self._engine.head(key)).etag
        except StorageError:
            return None

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> EngineDownload:
        """Begin to read."""
        download = await self._engine.get(key, start=start, end=end, etag=etag)
        self._saw_bucket()
        return download

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known; a HEAD that finds nothing doesn't say whether the bucket is there,
        so we ask.
        """
        try:
            info = await self._engine.head(key)
        except NotFound:
            await self._require_bucket(key)
            raise
        self._saw_bucket()
        return info

    async def digest(self, key: str) -> Digest | None:
        """Return the stored SHA-256; a multipart upload's is over the digests of its parts."""
        asked = {"x-amz-checksum-mode": "ENABLED"}
        reply = (await self._send("HEAD", key, headers=asked)).raise_for_refusal(
            bucket=self.bucket, key=key
        )
        value, dash, _ = reply.headers.get("x-amz-checksum-sha256", "").partition("-")
        if not value:
            return None
        raw = base64.b64decode(value)
        if not dash:
            return Digest("sha256", raw)
        first = await self._send("HEAD", key, parameters={"partNumber": "1"})
        part_size = int(
            first.raise_for_refusal(bucket=self.bucket, key=key).headers["content-length"]
        )
        return Digest("sha256", raw, part_size)

    def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages."""
        return self._engine.list(prefix, start_after)

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level."""
        return await self._engine.list_level(prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete, a thousand with each request."""
        await self._engine.delete(keys)

    async def copy(self, source: str, target: str) -> None:
        """Copy within the store."""
        await self._engine.copy(source, target)

    # The bucket

    def _saw_bucket(self) -> None:
        self._known_until = time.monotonic() + _KNOWN_FOR

    async def _require_bucket(self, key: str) -> None:
        """Raise `BucketNotFound` if there is none; some servers create it on the first write."""
        if time.monotonic() > self._known_until and not await self.bucket_exists():
            raise missing_bucket(self.bucket, key)

    async def bucket_exists(self) -> bool:
        """Ask; a refusal for lack of rights means that it is there."""
        reply = await self._send("HEAD", None)
        if reply.status == HTTPStatus.NOT_FOUND:
            return False
        if reply.status != HTTPStatus.FORBIDDEN:
            reply.raise_for_refusal(bucket=self.bucket, key=None)
        self._saw_bucket()
        return True

    async def create_bucket(self) -> None:
        """Create it, in the client's region."""
        place = ""
        if self._region not in ("us-east-1", "auto"):
            place = (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<LocationConstraint>{self._region}</LocationConstraint></CreateBucketConfiguration>"
            )
        reply = await self._send("PUT", None, body=place.encode())
        if reply.status != HTTPStatus.CONFLICT or "BucketAlreadyOwnedByYou" not in reply.text:
            if reply.status == HTTPStatus.CONFLICT and await self.bucket_exists():
                return
            reply.raise_for_refusal(bucket=self.bucket, key=None)
        self._saw_bucket()

    def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Yield what was begun and not ended."""
        return xml_upload.pending(self._send, bucket=self.bucket, prefix=prefix)

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Discard its parts."""
        await self._upload(pending.key, pending.upload_id).abort()

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Write the bucket policy, other statements kept."""
        policy = {"policy": ""}
        now = await self._send("GET", None, parameters=policy)
        if now.status != HTTPStatus.NOT_FOUND or "NoSuchBucketPolicy" not in now.text:
            now.raise_for_refusal(bucket=self.bucket, key=None)
        document = now.text if now.status == HTTPStatus.OK else None
        wanted = bucket_policy.changed(document, bucket=self.bucket, prefix=prefix, access=access)
        if wanted is None:
            reply = await self._send("DELETE", None, parameters=policy)
        else:
            headers = {"content-type": "application/json"}
            reply = await self._send(
                "PUT", None, parameters=policy, headers=headers, body=wanted.encode()
            )
        reply.raise_for_refusal(bucket=self.bucket, key=None)

    async def is_public(self, key: str) -> bool:
        """Ask for one byte without credentials."""
        await self.head(key)
        return await anonymous_read(
            self._channel, self._address.url(key), bucket=self.bucket, key=key
        )

    # Requests and links

    async def _send(
        self,
        method: str,
        key: str | None,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        digest: str | None = None,
    ) -> Reply:
        path = self._address.path(key)
        query = encode_query(parameters or {})
        url = self._address.origin + encode_path(path) + (f"?{query}" if query else "")
        hashed = await off_loop(len(body), _hex_digest, body) if digest is None else digest

        async def make() -> Request:
            if self._source.anonymous:
                return Request(method, url, headers or {}, body)
            signed = sigv4.sign_headers(
                method,
                host=self._address.host,
                path=path,
                query=query,
                headers=headers or {},
                digest=hashed,
                credentials=await self._source.get(),
                region=self._region,
                moment=datetime.now(UTC),
            )
            return Request(method, url, signed, body)

        return await self._channel.send(make)

    def url(self, key: str, endpoint_url: str | None) -> str:
        """Return the plain address."""
        return (self._at(endpoint_url) if endpoint_url else self._address).url(key)

    async def sign(self, link: LinkRequest, endpoint_url: str | None) -> SignedURL:
        """Return a presigned GET or PUT, or the form of a POST if the size is limited."""
        credentials = await self._source.get()
        address = self._at(endpoint_url) if endpoint_url else self._address
        if link.max_bytes is not None:
            return self._form(link, address, credentials, link.max_bytes)
        writing = link.access is PublicAccess.write
        method = "PUT" if writing else "GET"
        headers = {"content-type": link.content_type} if writing and link.content_type else {}
        path = sigv4.presign(
            method,
            host=address.host,
            path=address.path(link.key),
            credentials=credentials,
            region=self._region,
            moment=link.begins,
            seconds=int((link.expires - link.begins).total_seconds()),
            parameters={} if writing else link.overrides,
            headers=headers,
        )
        return SignedURL(
            address.origin + path, method=method, headers=headers, expires_at=link.expires
        )

    def _form(
        self, link: LinkRequest, address: Address, credentials: S3Credentials, limit: int
    ) -> SignedURL:
        identity = sigv4.post_identity(credentials, self._region, link.begins)
        policy = post_policy.encode(
            bucket=self.bucket, key=link.key, expires=link.expires, max_bytes=limit,
            content_type=link.content_type, fields=identity,
        )  # fmt: skip
        proof = sigv4.signature(credentials, link.begins, self._region, policy)
        fields = {"key": link.key, **identity, "policy": policy, "x-amz-signature": proof}
        return form(address.url(None), link, fields)

    async def close(self) -> None:
        """Nothing of its own is open."""


def form(url: str, link: LinkRequest, fields: dict[str, str]) -> SignedURL:
    """Return a browser upload; a family of types leaves the exact one to the form."""
    if link.content_type and not link.content_type.endswith("/*"):
        fields["Content-Type"] = link.content_type
    return SignedURL(url, method="POST", fields=fields, expires_at=link.expires)


async def anonymous_read(channel: HttpChannel, url: str, *, bucket: str, key: str) -> bool:
    """Tell whether an object is given to somebody without credentials."""

    async def make() -> Request:
        return Request("HEAD", url)

    reply = await channel.send(make)
    if reply.status in (400, 401, 403, 404, 409):  # Azure says 404 or 409 for a private container
        return False
    reply.raise_for_refusal(bucket=bucket, key=key)
    return True


def _hex_digest(body: Body) -> str:
    return sha256(body).hexdigest()


def _condition_headers(condition: Condition) -> dict[str, str]:
    if condition.create:
        return {"if-none-match": "*"}
    return {"if-match": f'"{condition.etag}"'} if condition.is_set else {}


def _store(
    address: Address,
    bucket: str,
    region: str,
    source: CredentialSource[S3Credentials],
    transport: Transport,
    *,
    virtual: bool,
) -> "S3Store":
    """Return the engine's store. Every setting is given, since the engine takes missing ones from
    the environment.
    """
    from obstore.store import S3Store

    async def credential() -> Any:
        current = await source.get()
        return {
            "access_key_id": current.access_key_id,
            "secret_access_key": current.secret_access_key,
            "token": current.session_token,
            "expires_at": current.expires_at,
        }

    base = address.base if virtual else address.base.removesuffix(f"/{bucket}")
    endpoint = address.origin + base
    return S3Store(
        bucket,
        config={
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "region": region,
            "virtual_hosted_style_request": virtual,
            "skip_signature": source.anonymous,
            "checksum_algorithm": "SHA256",
            "conditional_put": "etag",
            "unsigned_payload": False,
            "s3_express": False,
            "request_payer": False,
            "disable_bulk_delete": False,
            "disable_tagging": False,
        },
        credential_provider=None if source.anonymous else credential,
        client_options=client_options(transport, http=address.scheme == "http"),
        retry_config=retry_config(transport),
    )

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Google Cloud Storage over its XML API, with a service account's key or a bearer token.

Conditions are on generations, which ETags are looked up for. Google refuses them for uploads in
parts (https://cloud.google.com/storage/docs/multipart-uploads), so that such an upload makes an
object of another name first, ``.upload-…`` beside its key, which is copied to the key under the
condition and deleted. A process that is killed in between leaves that object.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from forktex_core.storage.access import PublicAccess
from forktex_core.storage.credentials import CredentialSource, GCSCredentials
from forktex_core.storage.errors import AccessDenied, NotFound, PreconditionFailed, StorageError
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
from forktex_core.storage.signing import gcs_v4, post_policy
from forktex_core.storage.signing.v4 import encode_path, encode_query
from forktex_core.storage.transport import Transport

from . import xml_upload
from .address import Address
from .engine import Engine, EngineDownload, bare, client_options, retry_config
from .protocol import Backend, Body, LinkRequest, PartLimits, SignedURL, Upload, unsupported
from .s3 import MIB, anonymous_read, form
from .xml_upload import XmlUpload, off_loop, parsed

if TYPE_CHECKING:
    from obstore.store import GCSStore

GOOGLE = "https://storage.googleapis.com"
_MD5 = re.compile(r"md5=([A-Za-z0-9+/=]+)")
_REQUEST_SECONDS = 900


class GCSBackend:
    """One bucket of Google Cloud Storage."""

    scheme = "gs"
    parts = PartLimits(smallest=5 * MIB, largest=5 * 1024 * MIB, count=10_000)
    max_link_seconds = gcs_v4.MAX_SECONDS
    max_copy_bytes = None

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None,
        source: CredentialSource[GCSCredentials],
        channel: HttpChannel,
        transport: Transport,
    ) -> None:
        self.bucket = bucket
        self._source = source
        self._channel = channel
        self._address = Address.of(endpoint_url or GOOGLE, bucket)
        self._engine = Engine(
            _store(endpoint_url or GOOGLE, bucket, source, transport), bucket, channel.slots
        )

    async def put(
        self, key: str, body: Body, attributes: Attributes, condition: Condition
    ) -> str | None:
        """Store an object; its MD5 goes along and is checked by the store."""
        md5 = await off_loop(len(body), lambda: hashlib.md5(body, usedforsecurity=False).digest())
        headers = {**_attribute_headers(attributes), "content-md5": base64.b64encode(md5).decode()}
        headers |= await self._conditions(key, condition)
        reply = await self._send("PUT", key, headers=headers, body=body)
        return bare(reply.raise_for_refusal(bucket=self.bucket, key=key).headers.get("etag"))

    async def _conditions(self, key: str, condition: Condition) -> dict[str, str]:
        if condition.create:
            return {"x-goog-if-generation-match": "0"}
        if not condition.is_set:
            return {}
        try:
            info = await self._engine.head(key)
        except NotFound:
            info = None
        if info is None or info.etag != condition.etag or info.version is None:
            raise PreconditionFailed(
                f"The object {key!r} is not the one with the ETag {condition.etag!r}.",
                bucket=self.bucket,
                key=key,
            )
        return {"x-goog-if-generation-match": info.version}

    async def begin(self, key: str, attributes: Attributes, condition: Condition) -> Upload:
        """Begin a multipart upload whose parts carry their MD5."""
        name = f"{_aside(key)}{secrets.token_hex(8)}" if condition.is_set else key
        upload_id = await xml_upload.begin(
            self._send, bucket=self.bucket, key=name, headers=_attribute_headers(attributes)
        )
        return self._publishing(self._upload(name, upload_id), name, key, condition)

    async def resume(self, key: str, attributes: Attributes, condition: Condition) -> Upload:
        """Go on with the upload that was begun last, or begin one."""
        uploads = self.pending_uploads(_aside(key) if condition.is_set else key)
        found = [begun async for begun in uploads if condition.is_set or begun.key == key]
        if not found:
            return await self.begin(key, attributes, condition)
        last = max(found, key=lambda begun: begun.started)
        upload = self._upload(last.key, last.upload_id)
        await upload.look()
        return self._publishing(upload, last.key, key, condition)

    def _publishing(self, upload: XmlUpload, name: str, key: str, condition: Condition) -> "Upload":
        return upload if name == key else ConditionalUpload(self, upload, name, key, condition)

    async def publish(self, name: str, key: str, condition: Condition) -> str | None:
        """Copy an object to its key under a condition; return the ETag."""
        source = encode_path(f"{self.bucket}/{name}")
        headers = {"x-goog-copy-source": source, **await self._conditions(key, condition)}
        reply = await self._send("PUT", key, headers=headers)
        return bare(parsed(reply, bucket=self.bucket, key=key).findtext("{*}ETag"))

    def _upload(self, key: str, upload_id: str) -> XmlUpload:
        return XmlUpload(
            self._send,
            bucket=self.bucket,
            key=key,
            upload_id=upload_id,
            checksums=False,
            conditions={},
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
        return await self._engine.get(key, start=start, end=end, etag=etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what is known; a HEAD that finds nothing can't tell whether there is a bucket."""
        try:
            return await self._engine.head(key)
        except NotFound:
            if not await self.bucket_exists():
                raise missing_bucket(self.bucket, key) from None
            raise

    async def digest(self, key: str) -> Digest | None:
        """Return the stored MD5, which objects of multipart uploads lack."""
        reply = (await self._send("HEAD", key)).raise_for_refusal(bucket=self.bucket, key=key)
        found = _MD5.search(reply.headers.get("x-goog-hash", ""))
        return Digest("md5", base64.b64decode(found[1])) if found else None

    def list(self, prefix: str, start_after: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Yield pages."""
        return self._engine.list(prefix, start_after)

    async def list_level(self, prefix: str) -> tuple[Sequence[CommonPrefix], Sequence[ObjectInfo]]:
        """Return one level."""
        return await self._engine.list_level(prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete; the store minds missing objects, so they are passed over one by one."""
        await delete_leniently(self, self._engine, keys)

    async def copy(self, source: str, target: str) -> None:
        """Copy within the store."""
        await self._engine.copy(source, target)

    async def bucket_exists(self) -> bool:
        """Ask; a refusal for lack of rights means that it is there."""
        reply = await self._send("HEAD", None)
        if reply.status not in (403, 404):
            reply.raise_for_refusal(bucket=self.bucket, key=None)
        return reply.status != HTTPStatus.NOT_FOUND

    async def create_bucket(self) -> None:
        """Create it in the project of the service account."""
        if await self.bucket_exists():
            return
        email = (await self._source.get()).client_email or ""
        project = email.partition("@")[2].partition(".iam.")[0]
        reply = await self._send(
            "PUT", None, headers={"x-goog-project-id": project} if project else {}
        )
        if reply.status != HTTPStatus.CONFLICT:
            reply.raise_for_refusal(bucket=self.bucket, key=None)

    def pending_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        """Yield what was begun and not ended."""
        return xml_upload.pending(self._send, bucket=self.bucket, prefix=prefix)

    async def abort_upload(self, pending: PendingUpload) -> None:
        """Discard its parts."""
        await self._upload(pending.key, pending.upload_id).abort()

    async def set_public(self, prefix: str, access: PublicAccess) -> None:
        """Refuse: prefixes are opened by IAM conditions, which belong to the project's owner."""
        raise unsupported(
            self.scheme,
            f"open the prefix {prefix!r} ({access})",
            "grant roles/storage.objectViewer with an IAM condition",
            bucket=self.bucket,
        )

    async def is_public(self, key: str) -> bool:
        """Ask without credentials."""
        await self.head(key)
        return await anonymous_read(
            self._channel, self._address.url(key), bucket=self.bucket, key=key
        )

    async def _send(
        self,
        method: str,
        key: str | None,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        digest: str | None = None,  # Google's signature leaves the body out
    ) -> Reply:
        path, query, sent = self._address.path(key), dict(parameters or {}), dict(headers or {})

        async def make() -> Request:
            if self._source.anonymous:
                return self._plain(method, path, query, sent, body)
            credentials = await self._source.get()
            if credentials.token is not None:
                return self._plain(
                    method,
                    path,
                    query,
                    {**sent, "authorization": f"Bearer {credentials.token}"},
                    body,
                )
            signed = gcs_v4.presign(
                method,
                host=self._address.host,
                path=path,
                credentials=credentials,
                moment=datetime.now(UTC),
                seconds=_REQUEST_SECONDS,
                parameters=query,
                headers=sent,
            )
            return Request(method, self._address.origin + signed, sent, body)

        return await self._channel.send(make)

    def _plain(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> Request:
        tail = f"?{encode_query(query)}" if query else ""
        return Request(method, self._address.origin + encode_path(path) + tail, headers, body)

    def url(self, key: str, endpoint_url: str | None) -> str:
        """Return the plain address."""
        return (Address.of(endpoint_url, self.bucket) if endpoint_url else self._address).url(key)

    async def sign(self, link: LinkRequest, endpoint_url: str | None) -> SignedURL:
        """Return a presigned GET or PUT, or the form of a POST if the size is limited."""
        credentials = await self._source.get()
        if not gcs_v4.can_sign(credentials):
            raise AccessDenied(
                "Signing needs the key of a service account; a bearer token alone cannot sign.",
                bucket=self.bucket,
            )
        address = Address.of(endpoint_url, self.bucket) if endpoint_url else self._address
        if link.max_bytes is not None:
            return self._form(link, address, credentials, link.max_bytes)
        writing = link.access is PublicAccess.write
        method = "PUT" if writing else "GET"
        headers = {"content-type": link.content_type} if writing and link.content_type else {}
        path = gcs_v4.presign(
            method,
            host=address.host,
            path=address.path(link.key),
            credentials=credentials,
            moment=link.begins,
            seconds=int((link.expires - link.begins).total_seconds()),
            parameters={} if writing else link.overrides,
            headers=headers,
        )
        return SignedURL(
            address.origin + path, method=method, headers=headers, expires_at=link.expires
        )

    def _form(
        self, link: LinkRequest, address: Address, credentials: GCSCredentials, limit: int
    ) -> SignedURL:
        identity = gcs_v4.post_identity(credentials, link.begins)
        policy = post_policy.encode(
            bucket=self.bucket, key=link.key, expires=link.expires, max_bytes=limit,
            content_type=link.content_type, fields=identity,
        )  # fmt: skip
        fields = {"key": link.key, **identity, **gcs_v4.post_fields(credentials, policy)}
        return form(address.url(None), link, fields)

    async def close(self) -> None:
        """Nothing of its own is open."""


class ConditionalUpload:
    """Parts of an object of another name, which becomes the object under a condition."""

    def __init__(
        self, backend: GCSBackend, parts: XmlUpload, name: str, key: str, condition: Condition
    ) -> None:
        self._backend, self._parts = backend, parts
        self._name, self._key, self._condition = name, key, condition
        self.part = parts.part

    async def complete(self) -> str | None:
        """Make the other object, copy it, delete it."""
        await self._parts.complete()
        etag = await self._backend.publish(self._name, self._key, self._condition)
        await self._backend.delete([self._name])
        return etag

    async def abort(self) -> None:
        """Discard the parts, and what was made of them."""
        await self._parts.abort()
        await self._backend.delete([self._name])


def _aside(key: str) -> str:
    """Return how the names of conditional uploads of a key begin."""
    folder, slash, _ = key.rpartition("/")
    return f"{folder}{slash}.upload-{hashlib.sha256(key.encode()).hexdigest()[:16]}-"


def _attribute_headers(attributes: Attributes) -> dict[str, str]:
    headers = {name.lower(): value for name, value in attributes.headers().items()}
    return headers | {f"x-goog-meta-{name}": value for name, value in attributes.metadata.items()}


async def delete_leniently(backend: Backend, engine: Engine, keys: Sequence[str]) -> None:
    """Delete with few requests; if one object was missing, finish key by key."""
    try:
        await engine.delete(keys)
    except NotFound:
        if not await backend.bucket_exists():
            raise missing_bucket(backend.bucket, keys[0]) from None
        for key in keys:
            try:
                await engine.delete([key])
            except NotFound:
                continue


def _store(
    endpoint_url: str, bucket: str, source: CredentialSource[GCSCredentials], transport: Transport
) -> "GCSStore":
    """Return the engine's store; a service account's key lets it sign its own tokens."""
    from obstore.store import GCSStore

    async def credential() -> Any:
        current = await source.get()
        return {"token": current.token or "", "expires_at": current.expires_at}

    config: dict[str, Any] = {"base_url": endpoint_url, "skip_signature": source.anonymous}
    static = source.static
    if static is not None and static.token is None:
        config["service_account_key"] = json.dumps(
            {
                "client_email": static.client_email,
                "private_key": static.private_key,
                "private_key_id": "",
                "type": "service_account",
            }
        )
    return GCSStore(
        bucket,
        config=config,  # type: ignore[arg-type]  # built up key by key
        credential_provider=None
        if "service_account_key" in config or source.anonymous
        else credential,
        client_options=client_options(transport, http=endpoint_url.startswith("http://")),
        retry_config=retry_config(transport),
    )

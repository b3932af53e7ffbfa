# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a client and its views share: connections, bounds, chores, one backend for each bucket."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable

from .backends.protocol import Backend
from .credentials import (
    AzureCredentials,
    CredentialProvider,
    Credentials,
    CredentialSource,
    GCSCredentials,
    S3Credentials,
)
from .endpoint import Endpoint
from .errors import ClientClosed
from .http import HttpChannel
from .transport import Transport
from .upload import Chores

# The engine's threads may still hand a result to the interpreter for a moment; one that ends
# meanwhile aborts.
_DRAIN = 0.1


class Connection:
    """Opened by its first use, closed once."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: "Credentials | CredentialProvider | None",
        *,
        endpoint_url: str | None,
        region: str,
        virtual_hosted: bool | None,
        transport: Transport,
    ) -> None:
        self.chores = Chores()
        self._channel = HttpChannel(transport)
        self._backends: dict[str, Backend] = {}
        self._done: set[str] = set()
        self._doing = asyncio.Lock()
        self._closed = False
        self._engine = endpoint.scheme in ("s3", "gs", "az")
        self._build = _builder(
            endpoint,
            credentials,
            endpoint_url=endpoint_url,
            region=region,
            virtual_hosted=virtual_hosted,
            transport=transport,
            channel=self._channel,
        )

    def backend(self, bucket: str) -> Backend:
        """Return the backend of a bucket."""
        if self._closed:
            raise ClientClosed("The storage client is closed.", bucket=bucket)
        if bucket not in self._backends:
            self._backends[bucket] = self._build(bucket)
        return self._backends[bucket]

    async def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do a piece of work under this name unless it was done; others wait while it runs."""
        if name in self._done:
            return
        async with self._doing:
            if name not in self._done:
                await work()
                self._done.add(name)

    async def close(self) -> None:
        """Wait for chores, close connections, let the engine rest; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        await self.chores.settle()
        backends, self._backends = self._backends, {}
        for backend in backends.values():
            await backend.close()
        await self._channel.close()
        if self._engine and backends:
            del backends
            await asyncio.sleep(_DRAIN)

    def __del__(self) -> None:
        if getattr(self, "_backends", None):
            warnings.warn(
                "A StorageClient was not closed.", ResourceWarning, stacklevel=2, source=self
            )


def _builder(
    endpoint: Endpoint,
    credentials: "Credentials | CredentialProvider | None",
    *,
    endpoint_url: str | None,
    region: str,
    virtual_hosted: bool | None,
    transport: Transport,
    channel: HttpChannel,
) -> Callable[[str], Backend]:
    """Return what makes a backend of a bucket; the imports are here since each engine is heavy."""
    if endpoint.scheme == "s3":
        from .backends.s3 import S3Backend

        keys = CredentialSource(S3Credentials, credentials)
        return lambda bucket: S3Backend(
            bucket,
            region=region,
            endpoint_url=endpoint_url,
            virtual_hosted=virtual_hosted,
            source=keys,
            channel=channel,
            transport=transport,
        )
    if endpoint.scheme == "gs":
        from .backends.gcs import GCSBackend

        service = CredentialSource(GCSCredentials, credentials)
        return lambda bucket: GCSBackend(
            bucket, endpoint_url=endpoint_url, source=service, channel=channel, transport=transport
        )
    if endpoint.scheme == "az":
        from .backends.azure import AzureBackend

        account = CredentialSource(AzureCredentials, credentials)
        return lambda bucket: AzureBackend(
            bucket, endpoint_url=endpoint_url, source=account, channel=channel, transport=transport
        )
    if credentials is not None or endpoint_url is not None:
        raise ValueError(f"{endpoint.scheme}:// takes neither credentials nor endpoint_url.")
    if endpoint.scheme == "file":
        from .backends.file import FileBackend

        return lambda bucket: FileBackend(bucket, endpoint.root)
    from .backends.memory import Bucket, MemoryBackend

    buckets: dict[str, Bucket] = {}
    return lambda bucket: MemoryBackend(bucket, buckets)

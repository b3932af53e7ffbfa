# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A store behind TLS whose certificate a private authority signed."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from forktex_core.storage import StorageUnavailable, Transport
from tests.storage.servers import S3

MIB = 1024 * 1024
HOST = "127.0.0.1"


def certificate(folder: Path) -> Path:
    """A file with a certificate of this host, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private authority")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return folder / "pem"


@contextlib.asynccontextmanager
async def tls(target: str, pem: Path) -> AsyncIterator[str]:
    """Speaks TLS in front of a server; bytes pass as they are."""
    host, _, port = target.removeprefix("http://").partition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_on(reader, inner_writer))
            group.create_task(pass_on(inner_reader, writer))

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_private_authority(s3: S3, bucket: str, tmp_path: Path) -> None:
    """With its certificate, the engine and our own requests talk to the store; without, neither
    does, and the error says that there was no answer."""
    pem = certificate(tmp_path)
    trusted = pem.read_text()
    trusted = trusted[trusted.index("-----BEGIN CERTIFICATE") :]
    async with tls(s3.url, pem) as url:
        known = Transport(root_certificate=trusted)
        async with s3.client(bucket, endpoint_url=url, transport=known) as storage:
            body = b"x" * 17 * MIB
            await storage.put("big", body)
            assert await storage.get("big", verify=True) == body
            assert (await storage.signed_url("big")).startswith("https://")
        unknown = Transport(max_retries=0, retry_timeout=2)
        async with s3.client(bucket, endpoint_url=url, transport=unknown) as storage:
            for work in (storage.get("big"), storage.bucket_exists()):
                with pytest.raises(StorageUnavailable):
                    await work

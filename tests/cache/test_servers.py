# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A real cluster of six processes, real sentinels, TLS, and OpenTelemetry's instrumentation."""

import asyncio
import datetime as dt
import ipaddress
import random
from collections import Counter
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
from redis.asyncio import Redis

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
from tests.cache.servers import Cluster, Proxy, Sentinels, Server, distribution_redis
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


async def test_limits_and_counters_when_a_primary_fails(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """While a primary fails over nothing is sent twice: a counter never exceeds its attempts, a
    limiter on the living primaries stays exact, and the log has one line of the outage.
    """
    client = await init(cluster.url, cluster=True, fail_open=True)
    limiter = RateLimiter("failover", Limit(20, 600), fail_closed=True)
    owners = {n: client.driver.node_of(f"count-{n}") for n in range(12)}
    gates = {n: client.driver.node_of(limiter._keys(client, n)[0]) for n in range(12)}
    dead = f"127.0.0.1:{cluster.nodes[0].port}"
    assert {dead} < set(owners.values()) & set(gates.values())
    answered: Counter[int] = Counter()
    attempts: Counter[int] = Counter()
    admitted: Counter[int] = Counter()
    stop = asyncio.Event()

    async def load(number: int) -> None:
        while not stop.is_set():
            attempts[number] += 1
            admitted[number] += (await limiter.hit(number)).ok
            try:
                await incr(f"count-{number}", ttl=600)
            except CacheUnavailableError:
                await asyncio.sleep(0.005)
            else:
                answered[number] += 1

    tasks = [asyncio.create_task(load(n)) for n in owners]
    await eventually(lambda: len(answered) == 12 and min(answered.values()) > 20)
    cluster.nodes[0].kill()
    await eventually(lambda: cluster.promoted(0), timeout=20)
    before = answered.copy()
    await eventually(lambda: all(answered[n] > before[n] for n in owners), timeout=15)
    stop.set()
    await asyncio.gather(*tasks)
    for number, owner in owners.items():
        count = await get_json(f"count-{number}")
        assert count <= attempts[number]
        assert count >= answered[number] or owner == dead
        assert admitted[number] == 20 or gates[number] == dead
        assert 20 <= admitted[number] <= 40
        assert (await limiter.peek(number)).remaining == 0
    assert sum(attempts.values()) > sum(answered.values())
    assert [r.levelname for r in caplog.records if "going on without it" in r.message] == [
        "WARNING"
    ]


async def test_a_dead_primary_leaves_the_others_alone(cluster: Cluster) -> None:
    """Calls on many keys that meet a dead node again and again don't shut off the living ones."""
    client = await init(cluster.url, cluster=True, timeouts=2)
    dead = f"127.0.0.1:{cluster.nodes[0].port}"
    keys = [f"k{n}" for n in range(60)]
    lost = [key for key in keys if client.driver.node_of(key) == dead]
    living = [key for key in keys if key not in lost]
    await mset(dict.fromkeys(keys, 1))
    cluster.nodes[3].kill()  # its replica: nobody is promoted
    cluster.nodes[0].kill()
    for _ in range(6):
        with pytest.raises(CacheUnavailableError):
            await delete(*lost)
    assert await mget(living) == [1] * len(living)
    assert await exists(*living) == len(living)


@pytest.fixture
async def proxied() -> AsyncIterator[Proxy]:
    """A proxy before a cluster of one node, which announces the proxy as its own address."""
    async with Server("--cluster-enabled", "yes") as server, Proxy(server.port) as proxy:
        async with Redis.from_url(server.url, decode_responses=True) as direct:
            await direct.config_set("cluster-announce-ip", "127.0.0.1")
            await direct.config_set("cluster-announce-port", proxy.port)
            await direct.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

            async def covered() -> bool:
                return "ok" in str(await direct.execute_command("CLUSTER", "INFO"))[:40]

            await eventually(covered)
        yield proxy


async def test_a_reply_cut_in_the_middle_on_a_cluster(proxied: Proxy) -> None:
    """Half a reply is an error for its caller, and nothing of it is left for the next."""
    await init(proxied.url, cluster=True)
    await set_json("long", "x" * 5_000)
    await set_json("short", "y")
    proxied.cut_after = 3_000
    with pytest.raises(CacheUnavailableError):
        await get_json("long")
    proxied.cut_after = None
    assert await get_json("short") == "y"
    assert await get_json("long") == "x" * 5_000


async def test_no_reply_reaches_another_caller_on_a_cluster(proxied: Proxy) -> None:
    """Thousands of calls cancelled at random moments: every reply is that of its own command."""
    await init(proxied.url, cluster=True)
    await mset({f"k{n}": n for n in range(100)})
    rng = random.Random(11)
    right: list[bool] = []

    async def read(number: int) -> None:
        right.append(await get_json(f"k{number}") == number)

    for _ in range(30):
        tasks = [asyncio.create_task(read(rng.randrange(100))) for _ in range(80)]
        for task in rng.sample(tasks, 40):
            asyncio.get_running_loop().call_later(rng.random() * 0.02, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(right) > 500
    assert all(right)


async def test_cluster_addresses_that_cannot_work() -> None:
    """A database number, a socket, or several hosts without cluster=True are errors."""
    with pytest.raises(CacheConfigurationError, match="only database 0"):
        await init("redis://127.0.0.1:1/3", cluster=True)
    with pytest.raises(CacheConfigurationError, match="a cluster is reached by"):
        await init("unix:///tmp/s", cluster=True)
    with pytest.raises(CacheConfigurationError, match="cluster=True"):
        await init("redis://127.0.0.1:1,127.0.0.1:2")


async def test_sentinels_lead_to_the_new_primary() -> None:
    """When the primary dies, the sentinels promote its replica and the client follows; the data
    servers' user and the sentinels' password are told apart.
    """
    async with Sentinels() as watched:
        with pytest.raises(CacheUnavailableError) as refused:
            await init(watched.url.replace("guard", "wrong"))
        assert "cret" not in str(refused.value)
        await init(watched.url)
        await set_json("k", 1)
        assert get_client().connection_pool.service_name == "main"  # type: ignore[union-attr,attr-defined]
        assert await get_client().execute_command("ACL", "WHOAMI") == b"app"
        await eventually(watched.in_step)
        watched.primary.kill()

        async def writes() -> bool:
            try:
                return await set_json("after", 2)
            except CacheUnavailableError:
                return False

        await eventually(writes, timeout=20)
        assert await get_json("k") == 1


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

    def __init__(self, program: str, folder: Path, *arguments: str) -> None:
        super().__init__(*arguments, program=program)
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
    certificate(tmp_path)
    async with TLSServer(distribution_redis(), tmp_path) as server:
        url = server.url.replace("redis:", "rediss:")
        await init(f"{url}?ssl_ca_certs={tmp_path / 'cert.pem'}", prefix="tls")
        assert await set_json("k", 1)
        assert await get_json("k") == 1
        with pytest.raises(CacheUnavailableError, match="certificate"):
            await init(url, name="blind")


async def test_a_cluster_over_tls_with_a_user(tmp_path: Path) -> None:
    """A cluster takes the URL's user and certificate authority for every node."""
    certificate(tmp_path)
    options = ("--cluster-enabled", "yes", "--tls-cluster", "yes")
    user = ("--user", "app", "on", ">s@cret", "~app:*", "&*", "+@all")
    async with TLSServer(distribution_redis(), tmp_path, *options, *user) as server:
        url = f"rediss://app:s%40cret@127.0.0.1:{server.port}?ssl_ca_certs={tmp_path / 'cert.pem'}"
        async with Redis.from_url(url) as direct:
            await direct.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await direct.config_set("cluster-announce-ip", "127.0.0.1")

            async def covered() -> bool:
                return b"cluster_state:ok" in await direct.execute_command("CLUSTER", "INFO")

            await eventually(covered)
        client = await init(url, cluster=True, prefix="app", timeouts=2)
        await mset({f"k{n}": n for n in range(20)})
        assert await mget([f"k{n}" for n in range(20)]) == list(range(20))
        [(name, node)] = await client.driver.primaries()
        assert await client.execute_on(name, node, "ACL", "WHOAMI") == b"app"


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

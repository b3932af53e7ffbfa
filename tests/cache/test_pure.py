# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The pure parts: entries, the breaker, the local tier, URLs, tallies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktex_core.cache import CacheConfigurationError, CacheEvent, Settings, Tallies, Timeouts
from forktex_core.cache.breaker import Breaker
from forktex_core.cache.endpoint import parse
from forktex_core.cache.entry import Entry, Standing, standing
from forktex_core.cache.local import LocalTier
from forktex_core.cache.tracking import shortest_prefixes

ENTRIES = st.builds(
    Entry,
    st.binary().filter(lambda data: data[:1] != b"\xf1"),
    st.integers(0, 10**6).map(lambda ms: ms / 1000),
    st.integers(0, 10**9).map(lambda ms: ms / 1000),
    st.lists(st.binary(min_size=8, max_size=8), max_size=4).map(tuple),
)


@given(ENTRIES)
def test_an_entry_survives_its_storage(entry: Entry) -> None:
    """Whatever is packed is unpacked; without a header it is its payload alone."""
    assert Entry.unpack(entry.pack()) == entry
    assert Entry(entry.payload).pack() == entry.payload


@given(st.binary())
def test_any_bytes_are_an_entry(data: bytes) -> None:
    """What others wrote under a key is read as a payload, never a crash."""
    assert data.endswith(Entry.unpack(data).payload)


@given(
    st.floats(0.001, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 200),
    st.floats(0.01, 1),
)
def test_an_entry_is_fresh_then_stale_then_spent(
    ttl: float, stale_for: float, extra: float, age: float, chance: float
) -> None:
    """Freshness follows the remaining lifetime alone."""
    grace = stale_for + extra
    state = standing(Entry(b"", 0, grace), ttl + grace - age, stale_for, 0, chance)
    if abs(age - ttl) > 1e-6 and abs(age - ttl - stale_for) > 1e-6:
        late = age - ttl
        expected = (
            Standing.FRESH if late < 0 else Standing.STALE if late < stale_for else Standing.SPENT
        )
        assert state is expected


def test_early_refresh_follows_the_published_rule() -> None:
    """The share of early refreshes is exp(-time left / (cost * beta)), as in the XFetch paper."""
    steps = 100_000
    for left, cost, beta in ((1.0, 0.5, 1.0), (2.0, 1.0, 2.0), (0.1, 1.0, 1.0)):
        entry = Entry(b"", cost)
        early = sum(
            standing(entry, left, 0, beta, (i + 0.5) / steps) is Standing.EARLY
            for i in range(steps)
        )
        assert early / steps == pytest.approx(math.exp(-left / (cost * beta)), abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_an_open_breaker_lets_one_probe_through_per_cooldown(
    steps: list[tuple[float, bool]],
) -> None:
    """Open, it passes at most one call per cooldown; any success closes it."""
    breaker, now, last = Breaker(3, 1.0), 0.0, -math.inf
    for pause, success in steps:
        now += pause
        was_open = breaker.failures >= 3
        if breaker.refuses(now):
            assert was_open
            assert now - last < 1.0
            assert 0 < breaker.wait(now) <= 1.0
            continue
        if was_open:
            assert now - last >= 1.0
        if success:
            breaker.succeeded()
            assert breaker.failures == 0
            assert breaker.wait(now) == 0
        else:
            breaker.failed(now)
            last = now


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "end", "write", "clear", "tag"]), st.sampled_from("abc")
        ),
        max_size=80,
    )
)
def test_the_local_tier_never_keeps_what_changed(steps: list[tuple[str, str]]) -> None:
    """Whatever the order of reads and announced changes, a kept value is the server's value."""
    tier, server = LocalTier(2, 1_000), dict.fromkeys("abc", 0)
    reads: dict[str, list[tuple[object, int]]] = {name: [] for name in "abc"}
    for action, name in steps:
        if action == "begin":
            reads[name].append((tier.expect(name, "tag"), server[name]))
        elif action == "end" and reads[name]:
            expectation, value = reads[name].pop(0)
            tier.settle(expectation, Entry(str(value).encode()), 10.0)  # type: ignore[arg-type]
        elif action == "write":
            server[name] += 1
            tier.drop([name])
        elif action == "tag":
            server = {each: value + 1 for each, value in server.items()}
            tier.drop(["tag"])
        elif action == "clear":
            tier.clear()
        assert len(tier) <= 2
        for each, value in server.items():
            kept = tier.get(each, 0.0)
            assert kept is None or kept[0].payload == str(value).encode()


def test_the_local_tier_is_bounded_by_bytes_and_time() -> None:
    """Large values leave no room for others, one too large is not kept, and lifetimes end."""
    tier = LocalTier(100, 50)
    for name in ("a", "b", "c"):
        tier.settle(tier.expect(name), Entry(b"x" * 20), 5.0)
    assert len(tier) == 2
    assert tier.get("a", 0.0) is None
    tier.settle(tier.expect("big"), Entry(b"x" * 60), 5.0)
    assert tier.get("big", 0.0) is None
    found = tier.get("c", 1.0)
    assert found is not None
    assert found[1] == 4.0
    assert tier.get("c", 5.0) is None


@given(st.lists(st.text("ab:", min_size=1, max_size=4), max_size=8))
def test_tracked_prefixes_cover_and_do_not_overlap(prefixes: list[str]) -> None:
    """Every prefix is covered by exactly one of the shortest."""
    shortest = shortest_prefixes(prefixes)
    for prefix in prefixes:
        assert sum(prefix.startswith(short) for short in shortest) == 1


def test_urls_are_parsed() -> None:
    """One server, a cluster's nodes, sentinels and a socket; credentials aren't shown."""
    one = parse("rediss://me:p%40ss@db:6380/2?ssl_ca_certs=/ca.pem")
    assert one.hosts == (("db", 6380),)
    assert one.shown == "rediss://db:6380/2"
    many = parse("redis://:pw@a:7000,b,[::1]:7002")
    assert many.hosts == (("a", 7000), ("b", 6379), ("::1", 7002))
    watched = parse("redis+sentinel://u:p@s1,s2:26380/main/3?sentinel_password=x")
    assert watched.service == "main"
    assert watched.hosts == (("s1", 26379), ("s2", 26380))
    assert watched.url == "redis://u:p@s1:26379/3"
    assert watched.sentinel_options == (("password", "x"),)
    assert parse("unix:///tmp/s.sock?db=1").shown == "unix:///tmp/s.sock"


@pytest.mark.parametrize("url", ["http://x", "localhost", "redis+sentinel://h", "redis://h:port"])
def test_a_url_of_no_known_form_is_refused(url: str) -> None:
    """The error says which forms there are or what is missing."""
    with pytest.raises(CacheConfigurationError):
        parse(url)


def test_settings_that_cannot_work_are_refused() -> None:
    """Zero connections, timeouts that aren't positive, a prefix with braces, no local entries."""
    with pytest.raises(CacheConfigurationError, match="max_connections"):
        Settings("redis://h", max_connections=0)
    with pytest.raises(CacheConfigurationError, match="timeouts"):
        Timeouts(command=0)
    with pytest.raises(CacheConfigurationError, match="prefix"):
        Settings("redis://h", prefix="{a}")
    with pytest.raises(CacheConfigurationError, match="local_entries"):
        Settings("redis://h", local_entries=0)
    assert "secret" not in repr(Settings("redis://:secret@h"))


def test_tallies_count() -> None:
    """Counts, sums and the longest, by name and kind; nothing yet is zeros."""
    tallies = Tallies()
    tallies(CacheEvent("hit", "a", 0.5))
    tallies(CacheEvent("hit", "a", 1.5))
    assert (tallies["a", "hit"].count, tallies["a", "hit"].seconds) == (2, 2.0)
    assert tallies["a", "hit"].longest == 1.5
    assert tallies["b", "miss"].count == 0
    assert set(tallies.all()) == {("a", "hit")}

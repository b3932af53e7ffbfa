# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Tags of cached values on a real server."""

import asyncio

from forktex_core.cache import CacheClient, cached, get_client, invalidate_tags
from tests.cache.counted import Counted
from tests.cache.servers import overheard
from tests.waiting import eventually


async def test_tags_invalidate_every_entry_that_carries_them(cache: CacheClient) -> None:
    """One deleted key makes all entries of a tag stale, and only those."""
    calls: list[str] = []

    @cached(namespace="tags", tags=("users", "user:{user_id}"))
    async def get(user_id: str, page: int) -> str:
        calls.append(user_id)
        return user_id

    for user, page in (("a", 1), ("a", 2), ("b", 1)):
        await get(user, page)
        await get(user, page)
    assert calls == ["a", "a", "b"]
    await invalidate_tags("user:a")
    for user, page in (("a", 1), ("a", 2), ("b", 1)):
        await get(user, page)
    assert calls == ["a", "a", "b", "a", "a"]
    await invalidate_tags("users")
    await get("b", 1)
    assert calls[-1] == "b"
    assert len(calls) == 6


async def test_invalidating_a_tag_costs_the_same_however_many_carry_it(
    cache: CacheClient, redis_url: str
) -> None:
    """One command that deletes one key makes 200 entries stale."""
    calls: list[int] = []

    @cached(namespace="wide", tags=("all",))
    async def get(number: int) -> int:
        calls.append(number)
        return number

    await asyncio.gather(*[get(number) for number in range(200)])
    before = await get_client().dbsize()
    async with overheard(redis_url) as commands:
        await invalidate_tags("all")
    assert commands == ["UNLINK"]
    assert await get_client().dbsize() == before - 1
    await asyncio.gather(*[get(number) for number in range(200)])
    assert sorted(calls) == sorted([*range(200)] * 2)


async def test_a_tag_invalidated_while_computing_counts(cache: CacheClient) -> None:
    """What was computed from before the invalidation of its tag isn't served after it."""
    body = Counted("old")

    @cached(namespace="tagrace", tags=("t",))
    async def get() -> str:
        return str(await body())

    body.gate.clear()
    first = asyncio.create_task(get())
    await eventually(lambda: body.running)
    await invalidate_tags("t")
    body.value = "new"
    body.gate.set()
    assert await first == "old"
    assert await get() == "new"

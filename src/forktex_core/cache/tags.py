# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Tags: one key per tag, whose token the entries that carry it remember (see `store`)."""

from collections import defaultdict

from .client import CacheClient
from .namespace import part_text
from .registry import client_named

TAGS = "tag::"


def tag_key(tag: str) -> str:
    """The key of a tag, without the client's prefix."""
    return TAGS + part_text(tag)


async def invalidate_tags(*tags: str, client: str | CacheClient = "default") -> None:
    """Forget every value that carries one of these tags: one deleted key per tag.

    Values that are being computed right now are forgotten, too.

    Raises:
        CacheUnavailableError: the server didn't answer; some tags may be invalidated.
    """
    target = client_named(client)
    slots: defaultdict[int, list[str]] = defaultdict(list)
    for tag in tags:
        key = target.key(tag_key(tag))
        slots[target.driver.slot_of(key)].append(key)
    for keys in slots.values():
        await target.execute(keys[0], "UNLINK", *keys)
        target.local.drop(keys)

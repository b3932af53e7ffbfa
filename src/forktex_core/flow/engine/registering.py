# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A worker tells the database what it serves, and what each body is: its hash.

The hashes are made in a thread, from the sources, when a worker begins, and not when a body is
decorated: helpers and imports may stand below it by then, and a process that only starts runs
parses nothing. A body that comes with another hash than it had under its version before is served
all the same, for an audit is the place to refuse it; but the log says so.
"""

import asyncio
import logging
from typing import Any

from forktex_core.flow.store.store import Store
from forktex_core.flow.workflow import Registry, Workflow

_logger = logging.getLogger("forktex_core.flow.worker")


async def register(store: Store, registry: Registry) -> None:
    """Register all definitions; warn of bodies that changed under their version."""
    workflows = list(registry)
    if not workflows:
        return
    hashes = await asyncio.to_thread(lambda: [body_hash(w) for w in workflows])
    rows = [
        (w.name, w.version, w.lane, w.kind, body) for w, body in zip(workflows, hashes, strict=True)
    ]
    for name, version in await store.register_definitions(rows):
        _logger.warning(
            "workflow %r version %s is not what it was when a worker registered it before: runs in "
            "flight may not replay; give the changed body version=%s ('forktex-flow audit' tells "
            "what changed)",
            name,
            version,
            version + 1,
        )


def body_hash(workflow: Workflow[Any, Any]) -> str | None:
    """Return the hash of a body, None when it has no source that could be read."""
    try:
        return workflow.fingerprint.hash
    except Exception as error:  # noqa: BLE001 - a worker serves what it can't hash
        _logger.debug("workflow %r is not hashed: %s", workflow.lane, error)
        return None

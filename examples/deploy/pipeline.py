# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The deploy pipeline: a workflow over steps that may each be repeated.

A crash between a step's effect and its record makes the next worker run that one step again; why
that does no harm is said at the functions that do the work (archive.py, server.py).
"""

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel

from examples.deploy import archive, server
from examples.deploy.manifest import Manifest
from examples.deploy.onboarding import onboarding
from examples.deploy.witness import testify
from forktex_core.flow import Flow, FlowContext, StepContext

DATABASE_URL = os.environ.get(
    "DEPLOY_DATABASE_URL", "postgresql+asyncpg://postgres@127.0.0.1/postgres"
)

flow = Flow(database_url=DATABASE_URL)


class Order(BaseModel):
    """What to deploy, and where the site's archives, servers and its ``current`` link lie."""

    manifest: Manifest
    source: Path
    site: Path


class Deployed(BaseModel):
    """Where the application answers now."""

    url: str
    server: Path
    pid: int


@flow.step
def pack(ctx: StepContext, order: Order) -> archive.Archive:
    """Pack the application's files."""
    testify(order.site, "pack")
    return archive.pack(order.source, order.site / "archives")


@flow.step
def check_hash(ctx: StepContext, order: Order, package: archive.Archive) -> None:
    """Deploy what was reviewed, nothing else."""
    testify(order.site, "check_hash")
    archive.check(package, order.manifest.sha256)


@flow.step
def provision(ctx: StepContext, order: Order) -> server.Server:
    """Make a server, named after this very step of this very run."""
    testify(order.site, "provision")
    instance = hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:12]
    return server.provision(order.site / "servers" / instance, instance)


@flow.step
def unpack(ctx: StepContext, order: Order, package: archive.Archive, target: server.Server) -> Path:
    """Bring the files there."""
    testify(order.site, "unpack")
    return archive.unpack(package, target.folder / "releases" / order.manifest.version)


@flow.step
def start(ctx: StepContext, order: Order, target: server.Server, release: Path) -> int:
    """Start the application there."""
    testify(order.site, "start")
    manifest = order.manifest
    patience = manifest.health.timeout_seconds
    return server.start(target, release, manifest.main, manifest.environment, patience)


@flow.step
def check_health(ctx: StepContext, order: Order, target: server.Server) -> None:
    """See it well before anybody is sent there."""
    testify(order.site, "check_health")
    health = order.manifest.health
    server.wait_until_up(target, health.path, health.timeout_seconds)


@flow.step
def switch(ctx: StepContext, order: Order, target: server.Server) -> None:
    """Send everybody there."""
    testify(order.site, "switch")
    server.switch(order.site / "current", target)


@flow.workflow(name="deploy", version=1)
async def deploy(ctx: FlowContext, order: Order) -> Deployed:
    """Deploy one application; ordinary Python, resumed where it stood."""
    package = await pack(ctx, order)
    await check_hash(ctx, order, package)
    target = await provision(ctx, order)
    release = await unpack(ctx, order, package, target)
    pid = await start(ctx, order, target, release)
    await check_health(ctx, order, target)
    await switch(ctx, order, target)
    return Deployed(url=target.url, server=target.folder, pid=pid)


flow.register_graph(onboarding)

STEPS = ("pack", "check_hash", "provision", "unpack", "start", "check_health", "switch")

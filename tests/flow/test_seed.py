# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The two snippets of the product's description, as they stand there."""

from forktex_core.flow import Flow, FlowContext, Graph
from tests.waiting import eventually


class Hetzner:
    async def create_server(self, size: str) -> str:
        return f"srv-{size}"


hetzner = Hetzner()


async def test_linear_workflow(flow: Flow, serving) -> None:
    """A code-defined workflow calls a decorated step and returns what it made of it."""

    @flow.step
    async def provision_vps(ctx: FlowContext, manifest: dict) -> str:
        return await hetzner.create_server(manifest["size"])

    @flow.workflow(name="cloud.deploy", version=1)
    async def deploy(ctx: FlowContext, manifest: dict) -> dict:
        server_id = await provision_vps(ctx, manifest)
        return {"server_id": server_id}

    async with serving(flow):
        run_id = await flow.start("cloud.deploy", input={"size": "cx22"})
        assert run_id.version == 7
        assert await flow.result(run_id, timeout=10) == {"server_id": "srv-cx22"}


async def test_graph(flow: Flow, serving, sql) -> None:
    """A graph waits in its manual state, is advanced by a signal, ends with its last payload."""
    sent: list[str] = []
    g = Graph(name="user.onboarding", version=1, initial="email_pending")

    @flow.step
    async def send_verification_email_step(ctx, address: str) -> None:
        sent.append(address)

    @g.state("email_pending", manual=True)
    async def email_pending(ctx, payload):
        await send_verification_email_step(ctx, payload["email"])
        return payload

    @g.state("verified", terminal=True)
    async def verified(ctx, payload):
        return payload

    g.transition("email_pending", "verified")
    flow.register_graph(g)
    async with serving(flow):
        run_id = await flow.start("user.onboarding", input={"email": "a@example.org"})
        await eventually(lambda: sql.fetchval("SELECT status = 'waiting' FROM run"))
        await flow.send_signal(run_id, "advance", payload={"code": "abc"})
        assert await flow.result(run_id, timeout=10) == {"email": "a@example.org", "code": "abc"}
    assert sent == ["a@example.org"]

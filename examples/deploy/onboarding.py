# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A state machine beside the pipeline: who signs up waits until the address is confirmed."""

from typing import Any

from forktex_core.flow import FlowContext, Graph

onboarding = Graph(name="user.onboarding", version=1, initial="email_pending")


def send_verification_email(email: str) -> str:
    """Ask for a confirmation (a real one would write to the address)."""
    return f"asked {email} to confirm"


@onboarding.state("email_pending", manual=True)
async def email_pending(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Ask, then wait for the answer: for years, if need be, at the cost of one row."""
    sent = await ctx.step(send_verification_email, payload["email"])
    return {**payload, "sent": sent}


@onboarding.state("verified", terminal=True)
async def verified(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """End with what is known by now."""
    return payload


onboarding.transition("email_pending", "verified")

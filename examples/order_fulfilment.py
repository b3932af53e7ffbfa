# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Order fulfilment whose rules the customers of a service write themselves.

The service offers actions and guards by name (`library`); a customer's own definition is JSON that
names them, with conditions in CEL. It is saved, activated and changed while workers run. Here the
outside world is a list: what was reserved, charged, sent, refunded.

    python examples/order_fulfilment.py postgresql://…
"""

import asyncio
import json
import sys
from typing import Any

from forktex_core.flow import Flow, FlowContext, Library

world: list[tuple[str, Any]] = []
library = Library()


async def record(what: str, order: Any) -> bool:
    """Stand for a call of a warehouse, a bank or a carrier."""
    world.append((what, order))
    return order != "out of stock"


@library.action
async def reserve(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Set the goods aside; say whether there are any."""
    reserved = await ctx.step(record, "reserve", payload["order"])
    return {**payload, "reserved": reserved}


@library.action
async def charge(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Take the money."""
    await ctx.step(record, "charge", payload["order"])
    return {**payload, "charged": True}


@library.action
async def pack(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Hand the goods to the carrier."""
    await ctx.step(record, "pack", payload["order"])
    return {**payload, "packed": True}


@library.action
async def write_invoice(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Write the bill."""
    await ctx.step(record, "invoice", payload["order"])
    return {**payload, "invoice": f"R-{payload['order']}"}


@library.action
async def refund(ctx: FlowContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Give the money back, if it was taken."""
    if payload.get("charged"):
        await ctx.step(record, "refund", payload["order"])
    return payload


@library.action
async def tell_customer(ctx: FlowContext, payload: dict[str, Any]) -> None:
    """Write an e-mail."""
    await ctx.step(record, "mail", payload["order"])


@library.guard
def large(payload: dict[str, Any]) -> bool:
    """Orders that somebody has to look at."""
    return bool(payload["amount"] > 1_000)


# What a customer of the service wrote, or drew in an editor that writes this.
DEFINITION = {
    "name": "fulfilment",
    "initial": "reserve",
    "unhandled": "reject",
    "states": {
        "reserve": {"action": "reserve", "retries": {"max_attempts": 5}, "on_error": "failed"},
        "approval": {"manual": True, "entry": "tell_customer"},
        "payment": {"action": "charge", "on_error": "failed"},
        "prepare": {
            "regions": {
                "goods": {
                    "name": "goods",
                    "initial": "pack",
                    "states": {
                        "pack": {"action": "pack"},
                        "carrier": {"manual": True},
                        "handed over": {"terminal": True},
                    },
                    "transitions": [
                        {"from": "pack", "to": "carrier"},
                        {"from": "carrier", "to": "handed over", "on": "picked up"},
                    ],
                },
                "bill": {
                    "name": "bill",
                    "initial": "invoice",
                    "states": {"invoice": {"action": "write_invoice", "terminal": True}},
                },
            }
        },
        "shipped": {"manual": True, "entry": "tell_customer"},
        "delivered": {"terminal": True, "entry": "tell_customer"},
        "cancelled": {"action": "refund", "terminal": True, "entry": "tell_customer"},
        "failed": {"action": "refund", "terminal": True, "entry": "tell_customer"},
    },
    "transitions": [
        {"from": "reserve", "to": "cancelled", "when": "payload.reserved == false"},
        {"from": "reserve", "to": "approval", "when": {"guard": "large"}},
        {"from": "reserve", "to": "payment"},
        {"from": "approval", "to": "payment", "on": "approve", "when": "signal.by != ''"},
        {"from": "approval", "to": "cancelled", "on": "decline"},
        {"from": "approval", "to": "cancelled", "after": 2 * 86400},
        {"from": "payment", "to": "prepare"},
        {"from": "prepare", "to": "shipped"},
        {"from": "prepare", "to": "cancelled", "on": "cancel"},
        {"from": "prepare", "to": "failed", "after": 7 * 86400},
        {"from": "shipped", "to": "delivered", "on": "arrived"},
        {"from": "shipped", "to": "delivered", "after": 14 * 86400},
    ],
}


async def fulfil(flow: Flow, order: str, amount: int) -> Any:
    """Take an order of the shop `acme` through its own definition; return where it ended."""
    run_id = await flow.start("@acme/fulfilment", {"order": order, "amount": amount})
    if amount > 1_000:
        await flow.offer_signal(run_id, "approve", {"by": ""})  # refused: nobody signed it
        await flow.offer_signal(run_id, "approve", {"by": "ada"})
    if order != "out of stock":
        await flow.offer_signal(run_id, "picked up")
        await flow.offer_signal(run_id, "arrived")
    return await flow.result(run_id, timeout=30)


async def main(url: str) -> list[Any]:
    """Save the customer's definition, and take three orders."""
    flow = Flow(url, schema="fulfilment")
    flow.serve_graphs(library)
    async with flow:
        worker = asyncio.create_task(flow.run_worker())
        try:
            version = await flow.definitions.save("acme", json.dumps(DEFINITION))
            await flow.definitions.activate("acme", "fulfilment", version)
            orders = [("lamp", 50), ("piano", 9_000), ("out of stock", 10)]
            return [await fulfil(flow, order, amount) for order, amount in orders]
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


if __name__ == "__main__":
    for line in asyncio.run(main(sys.argv[1])):
        print(line)

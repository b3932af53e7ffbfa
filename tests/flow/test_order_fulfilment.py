# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""examples/order_fulfilment.py does what it says."""

import json

from examples import order_fulfilment as example
from forktex_core.flow import Flow, Graph
from tests.conftest import Database


async def test_the_example_takes_three_orders(database: Database) -> None:
    """One goes through, one is approved first, one is cancelled; the world saw each step once."""
    example.world.clear()
    lamp, piano, none = await example.main(database.url)
    assert lamp["goods"]["packed"]
    assert lamp["bill"]["invoice"] == "R-lamp"
    assert (piano["by"], piano["goods"]["by"]) == ("ada", "ada")
    assert not none["reserved"]
    seen = {
        order: [what for what, of in example.world if of == order] for _, order in example.world
    }
    assert sorted(seen["lamp"]) == ["charge", "invoice", "mail", "mail", "pack", "reserve"]
    assert sorted(seen["piano"]) == ["charge", "invoice", *["mail"] * 3, "pack", "reserve"]
    assert seen["out of stock"] == ["reserve", "mail"]


async def test_its_orders_are_cancelled_with_the_money_back(flow: Flow, serving) -> None:
    """A signal leaves the fork; what was charged is given back."""
    example.world.clear()
    flow.serve_graphs(example.library)
    async with serving(flow):
        await flow.definitions.save("acme", json.dumps(example.DEFINITION))
        await flow.definitions.activate("acme", "fulfilment", 1)
        run_id = await flow.start("@acme/fulfilment", {"order": "cup", "amount": 5})
        assert (await flow.offer_signal(run_id, "cancel", timeout=20)).taken
        await flow.result(run_id, timeout=20)
    assert [what for what, _ in example.world][-2:] == ["mail", "refund"]


def test_its_definition_is_drawn() -> None:
    """The graph of the example has a picture with all of its states."""
    graph = Graph.from_json(json.dumps(example.DEFINITION), example.library)
    picture = graph.to_svg()
    for state in graph.states:
        assert f'data-state="{state}"' in picture

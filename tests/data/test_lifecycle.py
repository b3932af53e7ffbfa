# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Archive, restore, delete, and what is left of it in the history."""

import pytest

from forktex_core.data import (
    DataStore,
    DuplicateError,
    Field,
    Register,
    RestrictedError,
    RowNotFoundError,
    RowQuery,
)


async def family(store: DataStore, rule: str) -> tuple[Register, Register]:
    """Parents with a unique name, and children that refer to them by a rule."""
    parents = await Register.create(
        "parents", tenant_id="t", store=store, fields=[Field("name", unique=True, indexed=True)]
    )
    children = await Register.create("children", tenant_id="t", store=store)
    await children.add_relationship("parent", parents, on_delete=rule)  # type: ignore[arg-type]
    return parents, children


async def test_an_archived_row_takes_cascading_rows_along_and_back(store: DataStore) -> None:
    """They leave together and come back together, but not what was archived by itself before."""
    parents, children = await family(store, "cascade")
    parent = await parents.insert(name="p")
    one, two, three = [await children.insert(parent=parent.id) for _ in range(3)]
    await children.archive(three.id)
    assert await parents.archive(parent.id) == 3
    assert await parents.archive(parent.id) == 0
    assert len(await RowQuery(children).all()) == 0
    assert len(await RowQuery(children).archived("only").all()) == 3
    assert await parents.restore(parent.id) == 3
    assert {row.id for row in await RowQuery(children).all()} == {one.id, two.id}


async def test_an_archived_row_gives_its_unique_values_back(store: DataStore) -> None:
    """Another may take them; then restoring is refused, and nothing is restored."""
    parents, children = await family(store, "cascade")
    old = await parents.insert(name="p")
    await children.insert(parent=old.id)
    await parents.archive(old.id)
    await parents.insert(name="p")
    with pytest.raises(DuplicateError):
        await parents.restore(old.id)
    assert len(await RowQuery(children).all()) == 0


@pytest.mark.parametrize("rule", ["restrict", "set_null", "cascade"])
async def test_deleting_follows_the_rule_of_the_relationship(store: DataStore, rule: str) -> None:
    """A referring row refuses, loses the reference, or goes too; the history tells of it."""
    parents, children = await family(store, rule)
    parent = await parents.insert(name="p")
    child = await children.insert(parent=parent.id)
    if rule == "restrict":
        with pytest.raises(RestrictedError) as refused:
            await parents.delete(parent.id)
        assert refused.value.count == 1
        assert (await parents.get(parent.id)).revision == 1
        return
    assert await parents.delete(parent.id) == (2 if rule == "cascade" else 1)
    with pytest.raises(RowNotFoundError):
        await parents.get(parent.id)
    (gone,) = await parents.changes(parent.id)
    assert (gone.action, gone.before["name"]) == ("delete", "p")
    if rule == "set_null":
        assert (await children.get(child.id))["parent"] is None
        (emptied,) = await children.changes(child.id)
        assert emptied.before["parent"] == parent.id
    else:
        with pytest.raises(RowNotFoundError):
            await children.get(child.id)


async def test_history_tells_who_changed_what_when(store: DataStore) -> None:
    """Newest first, with the values before and after; a change of nothing is none."""
    parents, _ = await family(store, "restrict")
    row = await parents.insert(name="One")
    by = parents.acting_as("ana")
    await by.update(row.id, name="Two")
    await by.update(row.id, name="Two")
    await by.update(row.id, name=None)
    last, first = await parents.changes(row.id)
    assert (first.before, first.after, first.by) == ({"name": "One"}, {"name": "Two"}, "ana")
    assert (last.before, last.after, last.revision) == ({"name": "Two"}, {"name": None}, 3)
    with pytest.raises(RowNotFoundError):
        await parents.changes("00000000-0000-0000-0000-000000000000")

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Journals that earlier engines wrote replay with this one, whole and cut short."""

from dataclasses import replace
from pathlib import Path

import pytest

from forktex_core.flow import Flow
from forktex_core.flow.replayer import Journal, Replayer
from tests.flow.journals.bodies import SCRIPTS, build

FOLDER = Path(__file__).with_name("journals")
STORED = sorted(FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def flow() -> Flow:
    """The bodies of the stored journals."""
    return build("postgresql://nobody@127.0.0.1:1/nothing", "journals")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_journals_replay_for_ever(flow: Flow, path: Path) -> None:
    """The engine takes the same way as the one that wrote the journal, to the same end."""
    found = Replayer(flow.workflows).replay_file(path)
    assert found.verdict == "fits", found.reason
    assert found.reason.startswith("it ends as recorded: ")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_beginning_of_a_stored_journal_replays(flow: Flow, path: Path) -> None:
    """A run may be taken over after any entry: each beginning of its journal fits as well."""
    whole = Journal.from_json(path.read_text(encoding="utf-8"))
    replayer = Replayer(flow.workflows)
    for length in range(len(whole.entries)):
        cut = replace(whole, entries=whole.entries[:length], status="running", output=None)
        found = replayer.replay(cut)
        # Between a body's failure and its first compensation, nothing can be told of the run.
        told = whole.status != "failed" or "the body raises" not in found.reason
        assert found.verdict == ("fits" if told else "unsure"), f"{length}: {found.reason}"


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_another_name_in_a_stored_journal_diverges(flow: Flow, path: Path) -> None:
    """The test above can fail: an entry of another name is noticed in every journal."""
    whole = Journal.from_json(path.read_text(encoding="utf-8"))
    number = next(n for n, e in enumerate(whole.entries) if e.kind in ("step", "signal", "timer"))
    entries = list(whole.entries)
    entries[number] = replace(entries[number], name="other")
    found = Replayer(flow.workflows).replay(replace(whole, entries=tuple(entries)))
    assert (found.verdict, found.key) == ("diverges", entries[number].key)


def test_every_body_has_a_journal() -> None:
    """A body that is added is recorded: python -m tests.flow.journals.record."""
    build("postgresql://nobody@127.0.0.1:1/nothing", "journals")
    assert {path.stem for path in STORED} == set(SCRIPTS)

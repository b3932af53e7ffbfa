# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The demo's manifest."""

import json
from pathlib import Path
from typing import Any

import pytest

from examples.deploy.manifest import MANIFEST, ManifestError, load


def test_ours_is_valid() -> None:
    """The manifest of the demo loads."""
    assert load().name == "noticeboard"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "one"}, "version: String should match"),
        ({"source": "../app"}, r"source: .*relative path without '\.\.'"),
        ({"main": "/etc/passwd"}, r"main: .*relative path"),
        ({"sha256": "abc"}, "sha256: String should match"),
        (
            {"health": {"path": "x", "timeout_seconds": 0}},
            r"health\.path: (.|\n)*health\.timeout_se",
        ),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Each mistake is reported with the file and the field."""
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(MANIFEST.read_text()) | change))
    with pytest.raises(ManifestError, match=message) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    """A missing file and one that isn't JSON are errors that say so."""
    with pytest.raises(ManifestError, match="can't be read: No such file"):
        load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"name": \n oops}')
    with pytest.raises(ManifestError, match="line 2, column 2: not JSON"):
        load(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ManifestError, match="manifest: Input should be"):
        load(tmp_path / "list.json")

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Packing, checking and unpacking the demo's application."""

import os
import tarfile
from pathlib import Path

import pytest

from examples.deploy.archive import ArchiveError, check, pack, unpack
from examples.deploy.manifest import MANIFEST, load

APP = MANIFEST.parent / "app"


def test_the_manifest_vouches_for_the_application(tmp_path: Path) -> None:
    """The hash in the manifest is that of the files beside it (whoever changes one updates the
    other; the message has the new hash)."""
    check(pack(APP, tmp_path), load().sha256)


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    """Times, owners and leftovers of Python don't change an archive; contents and names do."""
    source = tmp_path / "source"
    (source / "__pycache__").mkdir(parents=True)
    (source / "a.py").write_text("1")
    first = pack(source, tmp_path)
    os.utime(source / "a.py", (1, 1))
    (source / "a.py").chmod(0o600)
    (source / "__pycache__" / "a.pyc").write_text("x")
    assert pack(source, tmp_path) == first
    (source / "a.py").rename(source / "b.py")
    assert pack(source, tmp_path).sha256 != first.sha256


def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    """An archive other than the manifest's is refused, naming both hashes."""
    archive = pack(APP, tmp_path)
    with pytest.raises(
        ArchiveError, match=f"has the SHA-256 {archive.sha256}, the manifest says 0"
    ):
        check(archive, "0" * 64)
    archive.path.write_bytes(b"other")
    with pytest.raises(ArchiveError):
        check(archive, archive.sha256)


def test_nothing_to_pack_is_an_error(tmp_path: Path) -> None:
    """A source without files is a mistake."""
    with pytest.raises(ArchiveError, match="holds no files"):
        pack(tmp_path / "missing", tmp_path)


def test_unpacking_twice_is_unpacking_once(tmp_path: Path) -> None:
    """A second attempt finds the release; a half-done first one is not taken for it."""
    archive = pack(APP, tmp_path)
    release = unpack(archive, tmp_path / "releases" / "1")
    (release / "mark").touch()
    assert unpack(archive, release) == release
    assert (release / "mark").exists()
    assert (release / "main.py").read_bytes() == (APP / "main.py").read_bytes()
    assert [path.name for path in release.parent.iterdir()] == ["1"]


def test_paths_that_lead_out_are_refused(tmp_path: Path) -> None:
    """An archive can't write outside of its release."""
    archive = pack(APP, tmp_path)
    with tarfile.open(archive.path, "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(tarfile.FilterError):
        unpack(archive, tmp_path / "releases" / "1")
    assert not (tmp_path / "releases" / "1").exists()

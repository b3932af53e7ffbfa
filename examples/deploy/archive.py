# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""An application's files in one archive: packed, checked, unpacked.

Every function may be repeated after a crash at any point: results come into being by a rename.
"""

import hashlib
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from pydantic import BaseModel


class ArchiveError(Exception):
    """The archive is not what was asked for."""


class Archive(BaseModel):
    """A packed application."""

    path: Path
    sha256: str
    files: int


def pack(source: Path, folder: Path) -> Archive:
    """Pack a folder's files into ``folder``; the same files give the same bytes anywhere.

    Repeated: the archive is named after its hash and renamed into place, so a second attempt
    replaces it by an equal one, and a half-written one is never seen."""
    files = sorted(
        path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    if not files:
        raise ArchiveError(f"{source} holds no files to deploy")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in files:
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(source).as_posix())
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{sha256}.tar"
    new = target.with_suffix(".new")
    new.write_bytes(buffer.getvalue())
    new.replace(target)
    return Archive(path=target, sha256=sha256, files=len(files))


def check(archive: Archive, expected: str) -> None:
    """Refuse an archive whose bytes are not the ones that the manifest vouches for.

    Repeated: only reads."""
    found = hashlib.sha256(archive.path.read_bytes()).hexdigest()
    if found != expected:
        raise ArchiveError(
            f"{archive.path.name} has the SHA-256 {found}, the manifest says {expected}: "
            "if the change is meant, put the new hash into the manifest"
        )


def unpack(archive: Archive, release: Path) -> Path:
    """Unpack into a new folder ``release``.

    Repeated: unpacked beside it first and renamed, so a release that exists is complete."""
    if not release.exists():
        release.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=release.parent))
        with tarfile.open(archive.path) as tar:
            tar.extractall(work, filter="data")
        try:
            work.rename(release)
        except OSError:
            shutil.rmtree(work)
            if not release.exists():
                raise
    return release

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""A folder as a bucket, in plain blocking calls: the files are the objects, for development.

Protocol. Bytes are written to a file beside the objects, flushed to the disk, and moved over the
key: a reader sees the old object or the new one, never a part. What a file cannot hold (content
type, metadata, ETag) is in a note under ``.forktex-storage/notes`` that names the size and the time
of the file it describes; the note is written first, so that after a crash between the two moves the
note does not fit, and is ignored. A file put there by hand has no note: its type is guessed from
its name. Writers of one folder take a lock file in turn (where the platform has such locks), which
makes conditions atomic between processes.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from forktex_core.storage.content_type import guess_content_type
from forktex_core.storage.errors import InvalidKey, NotFound, Unsupported
from forktex_core.storage.objects import Attributes, Condition, ObjectInfo
from forktex_core.storage.refusals import missing_bucket

from .memory import check_condition
from .protocol import Body

try:
    import fcntl
except ImportError:  # Windows: conditions hold between threads only
    fcntl = None  # type: ignore[assignment]

OWN = ".forktex-storage"
_SLICE = 1024 * 1024


class Folder:
    """The files of one bucket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bucket = path.name
        self._threads = threading.Lock()

    def exists(self) -> bool:
        """Tell whether the folder is there."""
        return self.path.is_dir()

    def create(self) -> None:
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)

    def require(self, key: str | None) -> None:
        """Raise `BucketNotFound` without a folder."""
        if not self.exists():
            raise missing_bucket(self.bucket, key)

    def file(self, key: str) -> Path:
        """Return the file of a key."""
        if key.partition("/")[0] == OWN:
            raise InvalidKey(
                f"Keys below {OWN}/ are taken by the file backend.", bucket=self.bucket, key=key
            )
        return self.path / key

    def _note(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.path / OWN / "notes" / name[:2] / f"{name}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path / OWN / "lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with self._threads, lock.open("ab") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def scratch(self) -> Path:
        """Return the path of a file that is not there yet, on the disk of the objects."""
        path = self.path / OWN / "scratch" / secrets.token_hex(16)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> str:
        """Store an object; return its ETag."""
        self.require(key)
        self.file(key)
        scratch = self.scratch()
        with scratch.open("wb") as file:
            file.write(body)
            _flush(file)
        return self.publish(key, scratch, hashlib.sha256(body).hexdigest(), attributes, condition)

    def publish(
        self, key: str, scratch: Path, etag: str, attributes: Attributes, condition: Condition
    ) -> str:
        """Make a finished file the object."""
        target = self.file(key)
        try:
            with self._locked():
                if condition.is_set:
                    check_condition(condition, self._etag(key), bucket=self.bucket, key=key)
                self._make_way(target, key)
                self._write_note(key, scratch, etag, attributes)
                os.replace(scratch, target)  # noqa: PTH105  # the exact system call is the point
        finally:
            scratch.unlink(missing_ok=True)
        return etag

    def _make_way(self, target: Path, key: str) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            clash = target.is_dir()
        except (FileExistsError, NotADirectoryError):
            clash = True
        if clash:
            raise Unsupported(
                f"file:// cannot hold the key {key!r}: "
                "a folder cannot have an object and objects below it.",
                bucket=self.bucket,
                key=key,
            )

    def _write_note(self, key: str, scratch: Path, etag: str, attributes: Attributes) -> None:
        note = self._note(key)
        note.parent.mkdir(parents=True, exist_ok=True)
        stat = scratch.stat()
        text = json.dumps(
            {
                "key": key,
                "etag": etag,
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "content_type": attributes.content_type,
                "cache_control": attributes.cache_control,
                "content_disposition": attributes.content_disposition,
                "metadata": dict(attributes.metadata),
            }
        )
        draft = self.scratch()
        draft.write_text(text)
        os.replace(draft, note)  # noqa: PTH105  # see above

    def _etag(self, key: str) -> str | None:
        try:
            return self.info(key).etag
        except NotFound:
            return None

    def info(self, key: str) -> ObjectInfo:
        """Return what is known about an object."""
        try:
            stat = self.file(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            stat = None
        if stat is None or not self.file(key).is_file():
            self.require(key)
            raise NotFound(
                f"There is no object {key!r} in bucket {self.bucket!r}.",
                bucket=self.bucket,
                key=key,
            )
        return self._describe(key, stat)

    def _describe(self, key: str, stat: os.stat_result) -> ObjectInfo:
        note = self._read_note(key, stat)
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        if note is None:
            etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
            return ObjectInfo(key, stat.st_size, etag, modified, None, guess_content_type(key))
        return ObjectInfo(
            key,
            stat.st_size,
            note["etag"],
            modified,
            None,
            note["content_type"],
            note["cache_control"],
            note["content_disposition"],
            note["metadata"],
        )

    def _read_note(self, key: str, stat: os.stat_result) -> dict[str, Any] | None:
        try:
            note: dict[str, Any] = json.loads(self._note(key).read_text())
        except (FileNotFoundError, ValueError):
            return None
        fits = (note["size"], note["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        return note if fits else None

    def open(self, key: str) -> tuple[IO[bytes], ObjectInfo]:
        """Open an object; the file stays the same however often the key is written meanwhile."""
        self.info(key)
        try:
            file = self.file(key).open("rb")
        except FileNotFoundError:
            raise NotFound(f"There is no object {key!r}.", bucket=self.bucket, key=key) from None
        return file, self._describe(key, os.fstat(file.fileno()))

    def digest(self, key: str) -> bytes | None:
        """Return the SHA-256 in the note of an object, if there is a note."""
        note = self._read_note(key, self.file(key).stat())
        return bytes.fromhex(note["etag"]) if note else None

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield the objects in the order of their keys."""
        self.require(None)
        folder = prefix.rpartition("/")[0]
        yield from self._walk(
            self.path / folder, f"{folder}/" if folder else "", prefix, start_after
        )

    def _walk(
        self, directory: Path, base: str, prefix: str, start_after: str
    ) -> Iterator[ObjectInfo]:
        try:
            entries = sorted(
                (f"{e.name}/" if e.is_dir() else e.name, e) for e in os.scandir(directory)
            )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in entries:
            key = base + name
            if name == f"{OWN}/" and not base:
                continue
            if name.endswith("/") and _may_hold(key, prefix, start_after):
                yield from self._walk(Path(entry.path), key, prefix, start_after)
            elif not name.endswith("/") and key.startswith(prefix) and key > start_after:
                yield self._describe(key, entry.stat())

    def delete(self, key: str) -> None:
        """Remove an object, its note, and folders that are empty then."""
        self.require(key)
        with self._locked():
            with contextlib.suppress(
                FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
            ):
                self.file(key).unlink()
            self._note(key).unlink(missing_ok=True)
            for parent in self.file(key).parents:
                if parent == self.path or not _remove_empty(parent):
                    break

    def copy(self, source: str, target: str) -> None:
        """Copy an object with its note."""
        file, info = self.open(source)
        scratch = self.scratch()
        with file, scratch.open("wb") as copied:
            shutil.copyfileobj(file, copied, _SLICE)
            _flush(copied)
        attributes = Attributes(
            info.content_type or guess_content_type(target),
            info.cache_control,
            info.content_disposition,
            info.metadata,
        )
        self.publish(target, scratch, self.hash(scratch), attributes, Condition())

    @staticmethod
    def hash(path: Path) -> str:
        """Return the hex SHA-256 of a file."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _may_hold(folder: str, prefix: str, start_after: str) -> bool:
    inside = folder.startswith(prefix) or prefix.startswith(folder)
    return inside and (folder > start_after or start_after.startswith(folder))


def _remove_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Checking bytes against a digest, whole or in parts."""

import hashlib
from pathlib import Path

from .errors import ChecksumMismatch
from .objects import Digest

_SLICE = 1024 * 1024


class DigestCheck:
    """Takes an object's bytes in order and tells in the end whether they are the ones that were
    stored.
    """

    def __init__(self, expected: Digest) -> None:
        self._expected = expected
        self._whole = self._new()
        self._part = self._new()
        self._room = expected.part_size or 0

    def _new(self) -> "hashlib._Hash":
        return hashlib.new(self._expected.algorithm, usedforsecurity=False)

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._expected.part_size is None:
            self._whole.update(piece)
            return
        view = memoryview(piece)
        while view:
            taken, view = view[: self._room], view[self._room :]
            self._part.update(taken)
            self._room -= len(taken)
            if not self._room:
                self._end_part()

    def _end_part(self) -> None:
        self._whole.update(self._part.digest())
        self._part, self._room = self._new(), self._expected.part_size or 0

    def require(self, *, bucket: str, key: str) -> None:
        """Raise `ChecksumMismatch` unless the bytes were right."""
        if self._expected.part_size is not None and self._room < self._expected.part_size:
            self._end_part()
        if self._whole.digest() != self._expected.value:
            raise ChecksumMismatch(
                f"The bytes of {key!r} differ from "
                f"the {self._expected.algorithm} that is stored with them.",
                bucket=bucket,
                key=key,
            )


def check_bytes(body: bytes, expected: Digest, *, bucket: str, key: str) -> None:
    """Raise `ChecksumMismatch` unless these are the bytes."""
    check = DigestCheck(expected)
    check.update(body)
    check.require(bucket=bucket, key=key)


def check_file(path: Path, expected: Digest, *, bucket: str, key: str) -> None:
    """Raise `ChecksumMismatch` unless the file holds the bytes."""
    check = DigestCheck(expected)
    with path.open("rb") as file:
        while piece := file.read(_SLICE):
            check.update(piece)
    check.require(bucket=bucket, key=key)


def require_sha256(actual: str, wanted: str, *, bucket: str, key: str) -> None:
    """Raise `ChecksumMismatch` unless a source had the SHA-256 (hex) that its producer gave."""
    if actual != wanted.lower():
        raise ChecksumMismatch(
            f"The source for {key!r} has the SHA-256 {actual}, not {wanted}: nothing was stored.",
            bucket=bucket,
            key=key,
        )

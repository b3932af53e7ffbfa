# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keys that can't collide.

A key is `path::part:part`. The path's segments are joined by a single colon and are never empty,
so the first double colon ends the path; each part is escaped, so a colon behind it is always a
separator. Two different sequences of part texts therefore never give one key, whatever they hold.

Escaping is percent-encoding of the part's UTF-8, which takes the glob characters, the braces of
hash tags, control characters and `=` with it. Texts above 128 characters become `=#` and their
SHA-256, which keeps the key of a hostile value short.
"""

import datetime as dt
import enum
import re
import uuid
from hashlib import sha256
from types import EllipsisType
from typing import Self
from urllib.parse import quote

from .errors import CacheKeyError

type KeyPart = str | bytes | int | uuid.UUID | enum.Enum | dt.date

_LONGEST_PART = 128
_PATH = re.compile(r"[A-Za-z0-9_.\-]+(?::[A-Za-z0-9_.\-]+)*")


def escape(text: str | bytes) -> str:
    """Percent-encode all but letters, digits and ``-._~+/``."""
    if isinstance(text, bytes):
        return quote(text, safe="/+")
    if text.isascii() and text.isalnum():
        return text
    return quote(text, safe="/+", errors="surrogatepass")


def shorten(text: str) -> str:
    """The escaped text itself, or its digest when it is long."""
    if len(text) <= _LONGEST_PART:
        return text
    return "=#" + sha256(text.encode()).hexdigest()


def part_text(part: KeyPart) -> str:
    """A part as it stands in a key.

    Raises:
        CacheKeyError: for a type that isn't a `KeyPart`.
    """
    return shorten(escape(plain_text(part)))


def plain_text(part: object) -> str | bytes:
    """A part's own text, not escaped yet.

    Raises:
        CacheKeyError: for a type that isn't a `KeyPart`.
    """
    match part:
        case enum.Enum():
            return plain_text(part.value)
        case str() | bytes():
            return part
        case int() if not isinstance(part, bool):
            return str(int(part))
        case uuid.UUID():
            return str(part)
        case dt.date():
            return part.isoformat()
    raise CacheKeyError(
        f"{part!r} ({type(part).__name__}) can't be part of a key: "
        "pass a str, bytes, int, UUID, Enum, date or datetime"
    )


class Namespace:
    """A family of keys: ``Namespace("user.profile").key(user_id)``.

    A part counts as its text: ``1`` and ``"1"`` are the same part, a UUID is its hyphenated form,
    an enum member its value, a date its ISO form. Other types, `None` and booleans among them, are
    refused, since a missing id would give everybody one key.

    Args:
        name: the path, segments of ``A-Z a-z 0-9 _ . -`` joined by colons.
        version: bump it to leave every key of an older layout behind.
        hash_tag: put the path in braces, so that all keys of the namespace (and of those nested in
            it) live in one cluster slot and can be used together in one command. One slot is one
            server: use it for the namespace of one user or one cart rather than of everything.

    Raises:
        CacheKeyError: the name isn't such a path, or the version is below 1.
    """

    __slots__ = ("_hash_tag", "_path")

    def __init__(self, name: str, *, version: int = 1, hash_tag: bool = False) -> None:
        if not _PATH.fullmatch(name):
            raise CacheKeyError(
                f"namespace {name!r} is not a path: use letters, digits, '_', '.' and '-' in "
                "segments joined by ':'; a segment known only at run time goes to child()"
            )
        self._path = _versioned(name, version)
        self._hash_tag = hash_tag

    @classmethod
    def _at(cls, path: str, hash_tag: bool) -> Self:
        namespace = cls.__new__(cls)
        namespace._path, namespace._hash_tag = path, hash_tag  # noqa: SLF001  # our own
        return namespace

    @property
    def path(self) -> str:
        """The text that every key of the namespace begins with."""
        return f"{{{self._path}}}" if self._hash_tag else self._path

    @property
    def hash_tag(self) -> bool:
        """Whether all keys of the namespace share a cluster slot."""
        return self._hash_tag

    def child(self, *segments: KeyPart, version: int = 1, hash_tag: bool = False) -> "Namespace":
        """A namespace below this one; segments are escaped like parts of a key.

        Below a tagged namespace the tag stays the parent's, so that they share its slot.
        """
        texts = [part_text(segment) for segment in segments]
        if not all(texts):
            raise CacheKeyError(f"namespace {self._path!r}: a segment can't be empty")
        if self._hash_tag:
            path = _versioned(":".join((self.path, *texts)), version)
            return Namespace._at(path, hash_tag=False)
        return Namespace._at(_versioned(":".join((self._path, *texts)), version), hash_tag)

    def key(self, *parts: KeyPart) -> str:
        """The key of these parts.

        Raises:
            CacheKeyError: a part is of a type without one obvious text.
        """
        if not parts:
            return self.path
        return f"{self.path}::{':'.join([part_text(part) for part in parts])}"

    def pattern(self, *parts: KeyPart | EllipsisType) -> str:
        """A glob for `delete_pattern`; a literal ``...`` stands for anything.

        ``pattern()`` is all keys with parts, of this namespace and those nested in it;
        ``pattern(user_id, ...)`` is all keys whose first part is that one and that have more.
        Glob characters inside a part are escaped as in every key, so they match only themselves.
        """
        if not parts:
            return f"{self.path}:*"
        texts = ("*" if isinstance(part, EllipsisType) else part_text(part) for part in parts)
        return f"{self.path}::{':'.join(texts)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespace) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Namespace<{self.path}>"


def _versioned(path: str, version: int) -> str:
    if version < 1:
        raise CacheKeyError(f"namespace {path!r}: versions start at 1, not {version}")
    return path if version == 1 else f"{path}@{version}"

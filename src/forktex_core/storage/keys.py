# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Keys that mean the same in every store, in a folder and in a URL."""

import re
import unicodedata
from functools import lru_cache

from .errors import InvalidKey

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255

_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_\-][A-Za-z0-9_\-.=+@, ]{0,100}/){0,7}[A-Za-z0-9_\-][A-Za-z0-9_\-.=+@,]{0,100}"
)
# Bidirectional controls make a name read differently from what it is.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REFUSED_CATEGORIES = frozenset(("Cc", "Cs", "Cn", "Co", "Zl", "Zp"))
_UNSAFE_IN_NAMES = re.compile(r"[^\w.\-]+")


@lru_cache(maxsize=8192)
def normalize_key(key: str, *, prefix: str = "") -> str:
    """Return ``prefix`` and ``key`` as one key in Unicode's composed form (NFC).

    Refused with `InvalidKey`: an empty key or segment, a leading or trailing slash, ``.`` and
    ``..``, backslashes, control characters and bidirectional controls, more than 1,024 bytes of
    UTF-8 in all or 255 in one segment.
    """
    if prefix:
        return prefix + _within(normalize_key(key), prefix)
    if _PLAIN.fullmatch(key) and len(key) <= MAX_SEGMENT_BYTES:
        return key
    return _checked(unicodedata.normalize("NFC", key))


def _within(key: str, prefix: str) -> str:
    if len(key.encode()) + len(prefix.encode()) > MAX_KEY_BYTES:
        raise _refuse(key, f"is longer than {MAX_KEY_BYTES} bytes with its prefix {prefix!r}")
    return key


def _checked(key: str) -> str:
    if not key:
        raise _refuse(key, "is empty")
    for character in key:
        if character in _BIDI or unicodedata.category(character) in _REFUSED_CATEGORIES:
            raise _refuse(key, f"contains the character U+{ord(character):04X}")
    if "\\" in key:
        raise _refuse(key, "contains a backslash")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise _refuse(key, f"is longer than {MAX_KEY_BYTES} bytes of UTF-8")
    for segment in key.split("/"):
        _check_segment(segment, key)
    return key


def _check_segment(segment: str, key: str) -> None:
    if not segment:
        raise _refuse(key, "begins or ends with a slash, or has two in a row")
    if segment in (".", ".."):
        raise _refuse(key, f"contains the path segment {segment!r}")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise _refuse(key, f"has a segment longer than {MAX_SEGMENT_BYTES} bytes of UTF-8")


def _refuse(key: str, why: str) -> InvalidKey:
    return InvalidKey(
        f"The key {key[:80]!r} {why}; build keys from safe_name() of what users send.", key=key
    )


def normalize_prefix(prefix: str) -> str:
    """Return what a listing may begin with: like a key, but empty or ending in a slash is fine."""
    if not prefix:
        return ""
    head = prefix.removesuffix("/")
    return normalize_key(head) + ("/" if head != prefix else "")


def safe_name(filename: str, *, fallback: str = "file") -> str:
    """Return a key segment from a file name that a user sent.

    Only the last path component counts; letters and digits of any script, dots, hyphens and
    underscores stay, all else becomes ``_``; at most 200 bytes, the suffix kept; never empty.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", filename))[-1]
    clean = _UNSAFE_IN_NAMES.sub("_", "".join(c for c in last if _shown(c))).strip("._")
    stem, dot, suffix = clean.rpartition(".")
    if not dot or len(suffix) > 16:
        stem, dot, suffix = clean, "", ""
    stem = stem.encode()[: 200 - len((dot + suffix).encode())].decode(errors="ignore")
    return (stem + dot + suffix) or fallback


def _shown(character: str) -> bool:
    return character not in _BIDI and unicodedata.category(character) not in _REFUSED_CATEGORIES

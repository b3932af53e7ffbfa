# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where a client points: ``s3://bucket/prefix``, taken apart."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .keys import normalize_key

SCHEMES = ("s3", "gs", "az", "file", "memory")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A scheme, a bucket, a key prefix (empty or ending in a slash) and, for ``file``, the folder
    of buckets.
    """

    scheme: str
    bucket: str
    prefix: str = ""
    root: str = ""

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Read an endpoint URL; a ValueError says what is wrong with it.

        ``s3://bucket[/prefix]``, and the same with ``gs``, ``az`` (the bucket is the container) and
        ``memory``; ``file:///folder/bucket``: the last component of the path is the bucket.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(
                f"The storage endpoint {_shown(url)!r} has no known scheme: use one of "
                + ", ".join(f"{scheme}://" for scheme in SCHEMES)
            )
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "A storage endpoint holds no credentials and no query: pass credentials=."
            )
        if parts.scheme == "file":
            return cls._folder(parts.netloc, unquote(parts.path))
        if not parts.netloc:
            raise ValueError(
                f"The storage endpoint {url!r} names no bucket: write {parts.scheme}://bucket."
            )
        prefix = unquote(parts.path).strip("/")
        return cls(parts.scheme, parts.netloc, normalize_key(prefix) + "/" if prefix else "")

    @classmethod
    def _folder(cls, host: str, path: str) -> "Endpoint":
        root, _, bucket = path.rstrip("/").rpartition("/")
        if host or not bucket:
            raise ValueError(
                "A file endpoint is an absolute path with three slashes: file:///folder/bucket."
            )
        return cls("file", bucket, root=root or "/")


def _shown(url: str) -> str:
    return url.rpartition("@")[2][:80]

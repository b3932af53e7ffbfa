# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What is known about an object, and what an operation says about its outcome."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

_NOTHING: Mapping[str, str] = MappingProxyType({})
_METADATA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is stored beside the bytes: HTTP headers to be given back, and metadata of your own."""

    content_type: str
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = _NOTHING

    def __post_init__(self) -> None:
        for name, value in self.headers().items():
            _check_value(name, value)
        for name, value in self.metadata.items():
            if not _METADATA_NAME.fullmatch(name):
                raise ValueError(
                    f"The metadata name {name!r} is not portable: "
                    "use lower-case letters, digits and underscores."
                )
            _check_value(f"metadata {name!r}", value)

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that are set, by their names."""
        pairs = (
            ("Content-Type", self.content_type),
            ("Cache-Control", self.cache_control),
            ("Content-Disposition", self.content_disposition),
        )
        return {name: value for name, value in pairs if value is not None}


def _check_value(name: str, value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(
            f"The value of {name} must be printable ASCII without blanks at its ends, "
            "since it travels as an "
            f"HTTP header; got {value!r}. Percent-encode other text."
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """When a write may happen: ``create`` if nothing is there, ``etag`` if just this is there."""

    create: bool = False
    etag: str | None = None

    @property
    def is_set(self) -> bool:
        """Tell whether there is any condition."""
        return self.create or self.etag is not None


ALWAYS = Condition()


# A listing makes thousands of these, and a frozen dataclass takes several times as long to make.
class ObjectInfo(NamedTuple):
    """What the store says about an object.

    ``size`` is in bytes, ``etag`` without quotes. A listing does not carry what is after
    ``version``: ask ``head`` for the content type, the headers and the metadata.
    """

    key: str
    size: int
    etag: str | None
    last_modified: datetime
    version: str | None = None
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = _NOTHING


@dataclass(frozen=True, slots=True)
class CommonPrefix:
    """A "folder" of a listing with a delimiter: every key below it begins with ``prefix``."""

    prefix: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """What was stored: ``size`` in bytes, ``etag`` without quotes (None where the store gives
    none).
    """

    key: str
    size: int
    etag: str | None
    content_type: str


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 or MD5 that the store keeps of an object, raw.

    With ``part_size``, ``value`` is the digest of the digests of the parts of that many bytes.
    """

    algorithm: str
    value: bytes
    part_size: int | None = None


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class PrefixReport:
    """What ``delete_prefix`` deleted or, on a dry run, would have deleted."""

    objects: int
    bytes: int
    dry_run: bool

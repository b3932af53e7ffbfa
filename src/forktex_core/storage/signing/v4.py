# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What Amazon's Signature Version 4 and Google's V4 share: the canonical request and the string to
sign.

Source: AWS, "Create a signed AWS API request"; Google Cloud, "Canonical requests". The two differ
in their names and in how the last string is signed, which is what a `Dialect` and a signer hold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
_PLAIN = re.compile(r"[A-Za-z0-9\-._~]*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names in which a provider speaks the protocol."""

    algorithm: str
    parameter: str
    terminator: str
    service: str


def encode_path(path: str) -> str:
    """Percent-encode a path, all but the unreserved characters of RFC 3986 and the slash."""
    return quote(path, safe="/-._~")


def encode_query(parameters: Mapping[str, str]) -> str:
    """Return the canonical query string: encoded, then sorted."""
    pairs = [f"{_encode(name)}={_encode(value)}" for name, value in parameters.items()]
    return "&".join(sorted(pairs))


def _encode(text: str) -> str:
    """Percent-encode one name or value; most need nothing, which the pattern finds out cheaply."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe="-._~")


def day(moment: datetime) -> str:
    """Return the day of a UTC moment as ``20130524``, several times faster than ``strftime``."""
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"


def timestamp(moment: datetime) -> str:
    """Return a UTC moment as ``20130524T000000Z``."""
    return f"{day(moment)}T{moment.hour:02}{moment.minute:02}{moment.second:02}Z"


def scope(dialect: Dialect, moment: datetime, region: str) -> str:
    """Return the credential scope: day, region, service and terminator."""
    return f"{day(moment)}/{region}/{dialect.service}/{dialect.terminator}"


def canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the header lines, sorted and folded, and the list of their names."""
    folded = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    return "".join(f"{name}:{value}\n" for name, value in folded), ";".join(
        name for name, _ in folded
    )


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], payload: str
) -> str:
    """Return the canonical request of an encoded path and query and the payload's hex digest."""
    lines, names = canonical_headers(headers)
    return f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"


def string_to_sign(dialect: Dialect, moment: datetime, region: str, request: str) -> str:
    """Return what the key signs."""
    digest = sha256(request.encode()).hexdigest()
    return f"{dialect.algorithm}\n{timestamp(moment)}\n{scope(dialect, moment, region)}\n{digest}"


def query_to_sign(
    dialect: Dialect,
    *,
    identity: str,
    moment: datetime,
    seconds: int,
    region: str,
    headers: Mapping[str, str],
    parameters: Mapping[str, str],
) -> str:
    """Return the query string of a presigned URL, still without its signature."""
    own = {
        f"{dialect.parameter}-Algorithm": dialect.algorithm,
        f"{dialect.parameter}-Credential": f"{identity}/{scope(dialect, moment, region)}",
        f"{dialect.parameter}-Date": timestamp(moment),
        f"{dialect.parameter}-Expires": str(seconds),
        f"{dialect.parameter}-SignedHeaders": canonical_headers(headers)[1],
    }
    return encode_query({**parameters, **own})

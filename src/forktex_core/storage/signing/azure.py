# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Azure Blob Storage: service SAS for links, Shared Key for our own requests.

Source: Microsoft, "Create a service SAS" and "Authorize with Shared Key". One version of the
protocol is named in both, so that the two strings to sign keep their form.
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime

from forktex_core.storage.credentials import AzureCredentials

from .v4 import encode_query

VERSION = "2021-12-02"
MAX_SECONDS = 365 * 24 * 3600


def _hmac(credentials: AzureCredentials, text: str) -> str:
    key = base64.b64decode(credentials.account_key)
    return base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()


def sas_query(
    *,
    credentials: AzureCredentials,
    container: str,
    key: str,
    permissions: str,
    start: datetime,
    expires: datetime,
    content_disposition: str = "",
    content_type: str = "",
    protocol: str = "https",
) -> str:
    """Return the query string of a service SAS for one blob.

    ``permissions`` in Azure's order (``r``, ``cw``); the content headers override those of the blob
    on reading.
    """
    begins, ends = f"{start:%Y-%m-%dT%H:%M:%SZ}", f"{expires:%Y-%m-%dT%H:%M:%SZ}"
    resource = f"/blob/{credentials.account}/{container}/{key}"
    fields = (permissions, begins, ends, resource, "", "", protocol, VERSION, "b", "", "")
    overrides = ("", content_disposition, "", "", content_type)
    parameters = {
        "sp": permissions, "st": begins, "se": ends, "spr": protocol, "sv": VERSION, "sr": "b",
        "rscd": content_disposition, "rsct": content_type,
        "sig": _hmac(credentials, "\n".join((*fields, *overrides))),
    }  # fmt: skip
    return encode_query({name: value for name, value in parameters.items() if value})


def shared_key_headers(
    method: str,
    *,
    credentials: AzureCredentials,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    length: int,
    moment: datetime,
) -> dict[str, str]:
    """Return all headers of a request: the given ones, date, version and Authorization.

    ``path`` is the encoded path of the URL; ``headers`` have lower-case names.
    """
    dated = {**headers, "x-ms-date": f"{moment:%a, %d %b %Y %H:%M:%S GMT}", "x-ms-version": VERSION}
    standard = (
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    )
    values = {**dated, "content-length": str(length) if length else ""}
    own = "".join(
        f"{name}:{dated[name].strip()}\n" for name in sorted(dated) if name.startswith("x-ms-")
    )
    resource = f"/{credentials.account}{path}"
    resource += "".join(f"\n{name.lower()}:{parameters[name]}" for name in sorted(parameters))
    text = "\n".join((method, *(values.get(name, "") for name in standard), own + resource))
    return {**dated, "authorization": f"SharedKey {credentials.account}:{_hmac(credentials, text)}"}

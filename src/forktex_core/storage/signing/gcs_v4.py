# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Google Cloud Storage's V4 signatures with a service account's RSA key.

Source: Google Cloud, "V4 signing process" and "Signatures". Any request of the XML API can be
presigned, so that this signer serves links and our own requests alike.
"""

from collections.abc import Mapping
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256

from forktex_core.storage.credentials import GCSCredentials

from . import rsa_key, v4

DIALECT = v4.Dialect("GOOG4-RSA-SHA256", "X-Goog", "goog4_request", "storage")
REGION = "auto"
MAX_SECONDS = 7 * 24 * 3600


def can_sign(credentials: GCSCredentials) -> bool:
    """Tell whether the credentials hold what a signature needs; a bearer token alone does not."""
    return credentials.client_email is not None and credentials.private_key is not None


def presign(
    method: str,
    *,
    host: str,
    path: str,
    credentials: GCSCredentials,
    moment: datetime,
    seconds: int,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Return path and query of a presigned request; like `sigv4.presign`."""
    signed_headers = {**(headers or {}), "host": host}
    query = v4.query_to_sign(
        DIALECT,
        identity=credentials.client_email or "",
        moment=moment,
        seconds=seconds,
        region=REGION,
        headers=signed_headers,
        parameters=parameters or {},
    )
    encoded = v4.encode_path(path)
    request = v4.canonical_request(method, encoded, query, signed_headers, v4.UNSIGNED)
    text = v4.string_to_sign(DIALECT, moment, REGION, request)
    return f"{encoded}?{query}&X-Goog-Signature={_signed(credentials, text)}"


def post_identity(credentials: GCSCredentials, moment: datetime) -> dict[str, str]:
    """Return the form fields that name the signer of a POST policy."""
    return {
        "x-goog-algorithm": DIALECT.algorithm,
        "x-goog-credential": f"{credentials.client_email}/{v4.scope(DIALECT, moment, REGION)}",
        "x-goog-date": v4.timestamp(moment),
    }


def post_fields(credentials: GCSCredentials, policy: str) -> dict[str, str]:
    """Return the form fields that prove a base64 POST policy."""
    return {"policy": policy, "x-goog-signature": _signed(credentials, policy)}


def _signed(credentials: GCSCredentials, text: str) -> str:
    return rsa_key.sign(credentials.private_key or "", text.encode(), SHA256()).hex()

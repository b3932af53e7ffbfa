# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Amazon's Signature Version 4 for S3 and every store that speaks it: URLs, requests, POST
policies.

Source: AWS, "Authenticating Requests (AWS Signature Version 4)" in the S3 API reference.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from forktex_core.storage.credentials import S3Credentials

from . import v4

DIALECT = v4.Dialect("AWS4-HMAC-SHA256", "X-Amz", "aws4_request", "s3")
MAX_SECONDS = 7 * 24 * 3600


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for step in (day, region, DIALECT.service, DIALECT.terminator):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def signature(credentials: S3Credentials, moment: datetime, region: str, text: str) -> str:
    """Return the hex signature of a string to sign (or of a base64 POST policy)."""
    key = _signing_key(credentials.secret_access_key, v4.day(moment), region)
    return hmac.digest(key, text.encode(), "sha256").hex()


def presign(
    method: str,
    *,
    host: str,
    path: str,
    credentials: S3Credentials,
    region: str,
    moment: datetime,
    seconds: int,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Return path and query of a presigned request.

    ``path`` is raw, ``headers`` are those that the sender must send exactly so, ``moment`` is UTC
    and the URL holds for ``seconds`` after it.
    """
    signed_headers = {**(headers or {}), "host": host}
    token = credentials.session_token
    query = v4.query_to_sign(
        DIALECT,
        identity=credentials.access_key_id,
        moment=moment,
        seconds=seconds,
        region=region,
        headers=signed_headers,
        parameters={**(parameters or {}), **({"X-Amz-Security-Token": token} if token else {})},
    )
    encoded = v4.encode_path(path)
    request = v4.canonical_request(method, encoded, query, signed_headers, v4.UNSIGNED)
    text = v4.string_to_sign(DIALECT, moment, region, request)
    return f"{encoded}?{query}&X-Amz-Signature={signature(credentials, moment, region, text)}"


def sign_headers(
    method: str,
    *,
    host: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    digest: str,
    credentials: S3Credentials,
    region: str,
    moment: datetime,
) -> dict[str, str]:
    """Return all headers to send: the given ones, those of the protocol and Authorization.

    ``path`` is raw, ``query`` canonical, ``digest`` the hex SHA-256 of the body.
    """
    own = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": v4.timestamp(moment)}
    if credentials.session_token:
        own["x-amz-security-token"] = credentials.session_token
    everything = {**headers, **own}
    request = v4.canonical_request(method, v4.encode_path(path), query, everything, digest)
    text = v4.string_to_sign(DIALECT, moment, region, request)
    everything["authorization"] = (
        f"{DIALECT.algorithm} "
        f"Credential={credentials.access_key_id}/{v4.scope(DIALECT, moment, region)}, "
        f"SignedHeaders={v4.canonical_headers({**headers, **own})[1]}, "
        f"Signature={signature(credentials, moment, region, text)}"
    )
    return everything


def post_identity(credentials: S3Credentials, region: str, moment: datetime) -> dict[str, str]:
    """Return the form fields that name the signer; they are conditions of the policy as well."""
    fields = {
        "x-amz-algorithm": DIALECT.algorithm,
        "x-amz-credential": f"{credentials.access_key_id}/{v4.scope(DIALECT, moment, region)}",
        "x-amz-date": v4.timestamp(moment),
    }
    if credentials.session_token:
        fields["x-amz-security-token"] = credentials.session_token
    return fields

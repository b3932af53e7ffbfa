# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Objects in any store, signed URLs, and public links that the consumer's configuration decides.

::

    storage = StorageClient(endpoint="s3://bucket", credentials=S3Credentials(key_id, secret))
    await storage.put("invoices/2026-04/INV-123.pdf", body, content_type="application/pdf")
    url = await storage.signed_url(
        "invoices/2026-04/INV-123.pdf", access=PublicAccess.read, ttl_seconds=600
    )

`StorageClient` is the interface; `Layout` decides where things go, `PublicLinks` how addresses look
outside, `CallbackSigner` and `CallbackApp` serve objects from the service's own domain. Errors are
below `StorageError`.
"""

from .access import PublicAccess
from .asgi import CallbackApp
from .backends.protocol import SignedURL
from .callback import CallbackClaims, CallbackSigner
from .client import StorageClient
from .content_type import guess_content_type
from .credentials import AzureCredentials, GCSCredentials, S3Credentials
from .errors import (
    AccessDenied,
    AlreadyExists,
    BucketNotFound,
    ChecksumMismatch,
    ClientClosed,
    InvalidKey,
    InvalidRange,
    InvalidTTL,
    LinkError,
    LinkExpired,
    LinkInvalid,
    NotFound,
    PreconditionFailed,
    RequestRefused,
    StorageError,
    StorageUnavailable,
    TooLarge,
    TruncatedBody,
    Unsupported,
)
from .keys import normalize_key, safe_name
from .layout import Area, Layout
from .links import LinkRule, PublicLinks
from .objects import CommonPrefix, ObjectInfo, PrefixReport, PutResult
from .reader import ObjectReader
from .signing.cloudfront import CloudFrontSigner
from .transport import Transport

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "Area",
    "AzureCredentials",
    "BucketNotFound",
    "CallbackApp",
    "CallbackClaims",
    "CallbackSigner",
    "ChecksumMismatch",
    "ClientClosed",
    "CloudFrontSigner",
    "CommonPrefix",
    "GCSCredentials",
    "InvalidKey",
    "InvalidRange",
    "InvalidTTL",
    "Layout",
    "LinkError",
    "LinkExpired",
    "LinkInvalid",
    "LinkRule",
    "NotFound",
    "ObjectInfo",
    "ObjectReader",
    "PreconditionFailed",
    "PrefixReport",
    "PublicAccess",
    "PublicLinks",
    "PutResult",
    "RequestRefused",
    "S3Credentials",
    "SignedURL",
    "StorageClient",
    "StorageError",
    "StorageUnavailable",
    "TooLarge",
    "Transport",
    "TruncatedBody",
    "Unsupported",
    "guess_content_type",
    "normalize_key",
    "safe_name",
]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What a store's refusal means, whether the engine or our own requests met it."""

import re
from http import HTTPStatus

from .errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    InvalidRange,
    NotFound,
    PreconditionFailed,
    RequestRefused,
    StorageError,
    StorageUnavailable,
)

TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_NO_BUCKET = frozenset(("NoSuchBucket", "ContainerNotFound"))
_CONDITIONS = frozenset(
    ("ConditionalRequestConflict", "BlobAlreadyExists", "PreconditionFailed", "ConditionNotMet")
)
_DIGESTS = frozenset(
    (
        "BadDigest",
        "InvalidDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "Md5Mismatch",
    )
)
_CODE = re.compile(r"<Code>(.*?)</Code>", re.DOTALL)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


def xml_error(text: str) -> tuple[str, str]:
    """Return the code and the first line of the message of an XML error body, empty where there is
    none.
    """
    code, message = _CODE.search(text), _MESSAGE.search(text)
    words = message[1].strip().splitlines()[0] if message and message[1].strip() else ""
    return (code[1].strip() if code else ""), words


def refusal(  # noqa: PLR0911  # a table of answers
    status: int, code: str, words: str, *, bucket: str, key: str | None
) -> StorageError:
    """Return the error for a refused request."""
    what = f"{code or 'status'} ({status})" + (f": {words}" if words else "")
    where = f"object {key!r} in bucket {bucket!r}" if key else f"bucket {bucket!r}"
    about = {"bucket": bucket, "key": key}
    if code in _NO_BUCKET:
        return missing_bucket(bucket, key)
    if code in _CONDITIONS or status == HTTPStatus.PRECONDITION_FAILED:
        return PreconditionFailed(f"The {where} is not as the condition demands. {what}", **about)
    if code in _DIGESTS:
        return ChecksumMismatch(
            f"The store received other bytes than were sent for the {where}. {what}", **about
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"There is no {where}.", **about)
    if status in (401, 403):
        return AccessDenied(f"Access to the {where} was refused. {what}{_hint(code)}", **about)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return InvalidRange(f"The range lies outside of the {where}.", **about)
    if status in TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return StorageUnavailable(f"The store could not serve the {where}. {what}", **about)
    return RequestRefused(
        f"The store refused a request for the {where}. {what}", status=status, code=code, **about
    )


def missing_bucket(bucket: str, key: str | None) -> BucketNotFound:
    """Return the error for a bucket that is not there."""
    return BucketNotFound(
        f"There is no bucket {bucket!r}: check the endpoint, or create it with create_bucket().",
        bucket=bucket,
        key=key,
    )


def _hint(code: str) -> str:
    hints = {
        "SignatureDoesNotMatch": (
            " Check the secret and the region, and that no proxy changes Host or path."
        ),
        "InvalidAccessKeyId": " The access key is unknown to the store.",
        "RequestTimeTooSkewed": (
            " The clocks of this machine and of the store differ: set this one right."
        ),
        "ExpiredToken": " Pass a credentials provider that refreshes.",
    }
    return hints.get(code, "")

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What ``forktex_core.storage`` raises.

::

    StorageError                  the root; carries ``bucket`` and ``key``
    ├── NotFound                  no object under this key
    ├── BucketNotFound            no such bucket: create it with ``create_bucket()``
    ├── PreconditionFailed        ``if_match`` did not hold
    │   └── AlreadyExists         ``if_none_match="*"`` did not hold
    ├── AccessDenied              credentials, policy or signature refused
    ├── StorageUnavailable        no answer, or 5xx and 429 to the last retry
    │   └── TruncatedBody         the body ended before the length that was announced
    ├── ChecksumMismatch          bytes differ from the digest that goes with them
    ├── RequestRefused            any other refusal of the store, with its code
    ├── Unsupported               this backend cannot do that; the documentation has the table
    ├── InvalidKey                (also a ValueError) a key that is not safe everywhere
    ├── InvalidRange              (also a ValueError) a range outside of the object
    ├── InvalidTTL                (also a ValueError) a lifetime that the provider refuses
    ├── TooLarge                  more bytes than an upload may have
    ├── ClientClosed              the client was closed
    └── LinkError                 a callback URL that must not be served
        ├── LinkInvalid           altered, foreign, or signed with a key that was retired
        └── LinkExpired           genuine, but too old

A missing bucket is never a ``NotFound``: ``except NotFound`` must not hide a wrong configuration.
"""


class StorageError(Exception):
    """The root of every error of this module.

    ``bucket`` and ``key`` say what it was about, None where it was about neither.
    """

    def __init__(self, message: str, *, bucket: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.bucket = bucket
        self.key = key


class NotFound(StorageError):  # noqa: N818  # its public name
    """No object under this key."""


class BucketNotFound(StorageError):  # noqa: N818  # its public name
    """The bucket does not exist, or not for these credentials."""


class PreconditionFailed(StorageError):  # noqa: N818  # its public name
    """The object is not the one that ``if_match`` names."""


class AlreadyExists(PreconditionFailed):
    """An object is there already, and ``if_none_match="*"`` was asked for."""


class AccessDenied(StorageError):  # noqa: N818  # its public name
    """The store refused the credentials, the signature or the right to do this."""


class StorageUnavailable(StorageError):  # noqa: N818  # its public name
    """The store did not answer, or answered with 5xx or 429 until the retries were used up."""


class TruncatedBody(StorageUnavailable):
    """The body ended before the length that was announced."""


class ChecksumMismatch(StorageError):  # noqa: N818  # its public name
    """The bytes differ from the digest that was given for them or is stored with them."""


class RequestRefused(StorageError):  # noqa: N818  # its public name
    """The store refused the request; ``status`` and ``code`` are its own words."""

    def __init__(
        self,
        message: str,
        *,
        bucket: str | None = None,
        key: str | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, bucket=bucket, key=key)
        self.status = status
        self.code = code


class Unsupported(StorageError):  # noqa: N818  # its public name
    """This backend has no such operation."""


class InvalidKey(StorageError, ValueError):  # noqa: N818  # its public name
    """The key is not safe, or not portable between stores."""


class InvalidRange(StorageError, ValueError):  # noqa: N818  # its public name
    """The range lies outside of the object."""


class InvalidTTL(StorageError, ValueError):  # noqa: N818  # its public name
    """The lifetime is not positive, or beyond what the provider signs."""


class TooLarge(StorageError):  # noqa: N818  # its public name
    """More bytes than the upload may have."""


class ClientClosed(StorageError):  # noqa: N818  # its public name
    """The client was closed before this call."""


class LinkError(StorageError):
    """A callback URL that must not be served."""


class LinkInvalid(LinkError):  # noqa: N818  # its public name
    """The URL was altered, belongs to another service, or its key was retired."""


class LinkExpired(LinkError):  # noqa: N818  # its public name
    """The URL is genuine and its time is over."""

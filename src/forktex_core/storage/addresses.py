# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The addresses of objects: public ones, signed ones, and those of the service's own domain.

None of these makes a request: an address follows from the configuration, the key and the time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from .access import PublicAccess
from .backends.protocol import LinkRequest, SignedURL
from .callback import CallbackClaims, CallbackSigner
from .link_request import check_ttl, link_request
from .links import LinkRule, PublicLinks
from .view import View

_YEAR = 366 * 24 * 3600


class Addresses(View):
    """What a client says about where its objects are found."""

    _links: PublicLinks
    _callback: CallbackSigner | None
    _skew: timedelta
    _clock: Callable[[], datetime]

    def public_url(self, key: str) -> str:
        """Return the address of an object without any signature, by the rules of `PublicLinks`.

        Without a rule it is the store's own address; `Unsupported` if that has none.
        """
        name = self._key(key)
        mapped = self._links.public_url(self._bucket, name)
        return mapped or self._backend.url(name, self._links.endpoint(self._bucket, name))

    async def signed_url(
        self,
        key: str,
        access: PublicAccess = PublicAccess.read,
        ttl_seconds: int = 600,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        max_bytes: int | None = None,
    ) -> SignedURL:
        """Return a URL that lets whoever has it read or write one object for ``ttl_seconds``. No
        request is made.

        Args:
            key: of the object, which need not exist.
            access: ``read`` for a GET; ``write`` for a PUT.
            ttl_seconds: 1 second to what the provider signs (7 days; a year for Azure), else
                `InvalidTTL`.
            filename: the name under which a browser saves the object. Without one, types in which a
                browser runs code are saved as well rather than shown.
            content_type: when reading, the type to be served as; when writing, the type that must
                be sent.
            max_bytes: makes ``write`` a browser upload: a POST of a form with the URL's ``fields``,
                limited in size; ``content_type`` may then be a family such as ``image/*``.

        The URL is a ``str`` with ``method``, ``headers``, ``fields`` and ``expires_at``. Where a
        rule of `PublicLinks` has a signer, that signs reads, with ``filename`` and ``content_type``
        as the query parameters that S3 takes: let the distribution pass them on. Where the store
        has no links (a folder, memory), reads go to `callback_url`.
        """
        name, backend = self._key(key), self._backend
        reading = access is PublicAccess.read
        rule = self._links.distribution(self._bucket, name) if reading else None
        longest = backend.max_link_seconds
        if rule is None and reading and not longest and self._callback is not None:
            return self.callback_url(key, ttl_seconds, filename=filename, content_type=content_type)
        request = link_request(
            name,
            access=access,
            ttl_seconds=ttl_seconds,
            filename=filename,
            content_type=content_type,
            max_bytes=max_bytes,
            now=self._clock(),
            clock_skew=self._skew,
            longest=_YEAR if rule is not None else longest or _YEAR,
        )
        if rule is not None:
            return _by_distribution(rule, request)
        return await backend.sign(request, self._links.endpoint(self._bucket, name))

    def callback_url(
        self,
        key: str,
        ttl_seconds: int = 600,
        *,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> SignedURL:
        """Return a signed URL of the service's own domain, which `CallbackApp` serves.

        Needs ``callback=``. ``filename`` and ``content_type`` are as in `signed_url`.
        """
        check_ttl(ttl_seconds, _YEAR)
        expires = self._clock().replace(microsecond=0) + timedelta(seconds=ttl_seconds)
        return self._signer().sign(
            CallbackClaims(self._bucket, self._key(key), expires, filename, content_type)
        )

    def verify_callback(self, url: str) -> CallbackClaims:
        """Return what a callback URL grants; raises `LinkInvalid` or `LinkExpired`.

        The key in the claims is the whole one, in the bucket that they name.
        """
        return self._signer().verify(url, now=self._clock())

    def _signer(self) -> CallbackSigner:
        if self._callback is None:
            raise ValueError(
                "Pass callback=CallbackSigner(base_url, keys) "
                "to the StorageClient for callback URLs."
            )
        return self._callback


def _by_distribution(rule: LinkRule, request: LinkRequest) -> SignedURL:
    url = rule.signed(request.key, expires=request.expires, parameters=request.overrides)
    return SignedURL(url, method="GET", expires_at=request.expires)

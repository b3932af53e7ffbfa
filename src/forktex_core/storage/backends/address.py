# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where a bucket of S3's kind of store is: host and path, in path style or virtual-hosted style."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from forktex_core.storage.signing.v4 import encode_path


@dataclass(frozen=True, slots=True)
class Address:
    """The scheme, host and path of a bucket; ``base`` begins with a slash and does not end with
    one, or is empty.
    """

    scheme: str
    host: str
    base: str

    @classmethod
    def of(cls, endpoint_url: str, bucket: str, *, virtual: bool = False) -> "Address":
        """Return the address of a bucket below a server's URL."""
        parts = urlsplit(endpoint_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username:
            raise ValueError(
                f"endpoint_url must be like https://host[:port], got {endpoint_url!r}."
            )
        host, base = parts.netloc.lower(), parts.path.rstrip("/")
        default = {"http": ":80", "https": ":443"}[parts.scheme]
        host = host.removesuffix(default)
        if virtual:
            return cls(parts.scheme, f"{bucket}.{host}", base)
        return cls(parts.scheme, host, f"{base}/{bucket}")

    @property
    def origin(self) -> str:
        """The scheme and host."""
        return f"{self.scheme}://{self.host}"

    def path(self, key: str | None) -> str:
        """Return the path of a key, or of the bucket, not yet encoded."""
        return f"{self.base}/{key}" if key is not None else self.base or "/"

    def url(self, key: str | None) -> str:
        """Return the encoded URL of a key, or of the bucket."""
        return self.origin + encode_path(self.path(key))

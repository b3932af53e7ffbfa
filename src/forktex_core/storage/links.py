# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the public finds what is stored: the consumer's configuration, and no code, decides.

A client talks to the store under one name and hands out addresses under another: ``endpoint_url``
is the name under which browsers reach the store itself (SigV4 signs the host, so a link must be
signed for it), and a rule says that what is under a bucket and prefix is served by a CDN or a
domain of one's own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from .signing.cloudfront import CloudFrontSigner
from .signing.v4 import encode_query


@dataclass(frozen=True, slots=True)
class LinkRule:
    """What begins with ``prefix`` in ``bucket`` (None: in any) is public under ``base_url``.

    ``strip_prefix`` leaves the prefix out of the address. ``signer`` makes signed URLs for a
    distribution that wants them. ``endpoint_url`` overrides that of the `PublicLinks` for what the
    rule covers.
    """

    prefix: str = ""
    bucket: str | None = None
    base_url: str | None = None
    strip_prefix: bool = False
    signer: CloudFrontSigner | None = None
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        for name, url in (("base_url", self.base_url), ("endpoint_url", self.endpoint_url)):
            if url is not None:
                check_url(name, url)
        if self.signer is not None and self.base_url is None:
            raise ValueError("A rule with a signer needs the base_url of its distribution.")

    def covers(self, bucket: str, key: str) -> bool:
        """Tell whether the rule is about this object."""
        return self.bucket in (None, bucket) and key.startswith(self.prefix)

    def signed(self, key: str, *, expires: datetime, parameters: Mapping[str, str]) -> str:
        """Return the public address of a key, with parameters, signed for the distribution."""
        if self.signer is None:
            raise ValueError(f"The rule for {self.prefix!r} has no signer.")
        query = f"?{encode_query(parameters)}" if parameters else ""
        return self.signer.sign(f"{self.address(key)}{query}", expires=expires)

    def address(self, key: str) -> str | None:
        """Return the public address of a key."""
        if self.base_url is None:
            return None
        shown = key.removeprefix(self.prefix) if self.strip_prefix else key
        return f"{self.base_url.rstrip('/')}/{quote(shown, safe='/-._~')}"


class PublicLinks:
    """The mapping from internal locations to public addresses."""

    def __init__(self, *, endpoint_url: str | None = None, rules: Iterable[LinkRule] = ()) -> None:
        if endpoint_url is not None:
            check_url("endpoint_url", endpoint_url)
        self.endpoint_url = endpoint_url
        # The most specific rule wins: a bucket's before any bucket's, then the longest prefix.
        self.rules = tuple(sorted(rules, key=lambda rule: (rule.bucket is None, -len(rule.prefix))))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "PublicLinks":
        """Read a parsed JSON or TOML section: ``endpoint_url`` and a list ``rules``.

        A rule has the fields of `LinkRule`; its ``cloudfront`` (``key_pair_id``, ``private_key``)
        makes the signer. A ValueError names an unknown field.
        """
        _check_fields("links", config, ("endpoint_url", "rules"))
        return cls(
            endpoint_url=config.get("endpoint_url"),
            rules=[_rule(given) for given in config.get("rules", ())],
        )

    def rule(self, bucket: str, key: str) -> LinkRule | None:
        """Return the rule for an object."""
        return next((rule for rule in self.rules if rule.covers(bucket, key)), None)

    def public_url(self, bucket: str, key: str) -> str | None:
        """Return the public address by the rules, None without one."""
        rule = self.rule(bucket, key)
        return rule.address(key) if rule else None

    def distribution(self, bucket: str, key: str) -> LinkRule | None:
        """Return the rule for an object if that has a signer, None else."""
        rule = self.rule(bucket, key) if self.rules else None
        return rule if rule and rule.signer else None

    def endpoint(self, bucket: str, key: str) -> str | None:
        """Return the name under which browsers reach the store, None if it is the client's own."""
        rule = self.rule(bucket, key)
        return (rule.endpoint_url if rule else None) or self.endpoint_url


def check_url(name: str, url: str) -> None:
    """Raise a ValueError unless this is an address that a path can be appended to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{name} must be like https://host/path without a query, got {url!r}.")


def _rule(given: Mapping[str, Any]) -> LinkRule:
    fields = ("prefix", "bucket", "base_url", "strip_prefix", "endpoint_url")
    _check_fields("rule", given, (*fields, "cloudfront"))
    signer = None
    if pair := given.get("cloudfront"):
        _check_fields("cloudfront", pair, ("key_pair_id", "private_key"))
        signer = CloudFrontSigner(pair["key_pair_id"], pair["private_key"])
    return LinkRule(**{name: given[name] for name in fields if name in given}, signer=signer)


def _check_fields(where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"Unknown in {where}: {', '.join(unknown)}; known are {', '.join(known)}.")

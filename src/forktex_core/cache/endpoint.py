# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Where the servers are: connection URLs. Pure.

    redis://user:password@host:6379/0          one server; rediss:// over TLS
    unix:///path/to/socket?db=0                one server, by its socket
    redis://host1:7000,host2:7001              a cluster (with ``cluster=True``)
    redis+sentinel://h1:26379,h2:26379/name/0  the primary `name` that these sentinels watch

User and password are the data servers'; sentinels have theirs in the query
(``sentinel_username``, ``sentinel_password``). The rest of the query goes to the driver: TLS files
are ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from .errors import CacheConfigurationError

_PORTS = {"sentinel": 26379, "": 6379}
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed URL.

    Attributes:
        url: a URL of the first server in the driver's own form, credentials and options included.
        hosts: all hosts and ports.
        service: the name that sentinels know the primary by; `None` without sentinels.
        sentinel_options: user and password of the sentinels.
        shown: the address without credentials, for messages.
    """

    url: str
    hosts: tuple[tuple[str, int], ...]
    service: str | None
    sentinel_options: tuple[tuple[str, str], ...]
    shown: str


def parse(url: str) -> Endpoint:
    """Parse a connection URL.

    Raises:
        CacheConfigurationError: the URL is of no known form; credentials aren't in the message.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise CacheConfigurationError(
            f"a cache URL begins with {', '.join(f'{s}://' for s in _SCHEMES)}, "
            f"not with {parts.scheme or 'nothing'}://"
        )
    if parts.scheme == "unix":
        return Endpoint(url, (), None, (), f"unix://{parts.path}")
    scheme, _, sentinel = parts.scheme.partition("+")
    credentials, _, netloc = parts.netloc.rpartition("@")
    hosts = tuple(_host(item, _PORTS[sentinel]) for item in netloc.split(","))
    shown = f"{parts.scheme}://{','.join(f'{host}:{port}' for host, port in hosts)}{parts.path}"
    service, path = None, parts.path
    if sentinel:
        service, _, database = unquote(parts.path.lstrip("/")).partition("/")
        path = f"/{database}" if database else ""
        if not service:
            raise CacheConfigurationError(
                f"{shown}: name the primary that the sentinels watch: {parts.scheme}://host/name"
            )
    query, options = _split_query(parts.query)
    host, port = hosts[0]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    first = f"{scheme}://{credentials and credentials + '@'}{address}{path}"
    return Endpoint(first + (f"?{query}" if query else ""), hosts, service, options, shown)


def _host(item: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{item}")
    try:
        return unquote(parts.hostname or "localhost"), parts.port or default
    except ValueError:
        raise CacheConfigurationError(f"{item!r} isn't a host and a port") from None


def _split_query(query: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    data, sentinel = [], []
    for name, value in parse_qsl(query):
        if name.startswith("sentinel_"):
            sentinel.append((name.removeprefix("sentinel_"), value))
        else:
            data.append((name, value))
    return urlencode(data), tuple(sentinel)

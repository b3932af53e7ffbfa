# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Credentials, given once or fetched again and again by a provider, never shown in a repr."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from .errors import AccessDenied

# A credential is fetched anew this long before it expires, so that no request in flight outlives
# it.
REFRESH_MARGIN = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """An access key of an S3-compatible store; ``expires_at`` (aware) for temporary ones."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class GCSCredentials:
    """A service account's key (needed to sign URLs), a bearer token of a workload identity, or
    both.
    """

    client_email: str | None = None
    private_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None

    @classmethod
    def from_service_account(cls, info: Mapping[str, str]) -> "GCSCredentials":
        """Read the parsed JSON key file of a service account."""
        return cls(client_email=info["client_email"], private_key=info["private_key"])


@dataclass(frozen=True, slots=True)
class AzureCredentials:
    """A storage account's name and one of its two keys (base64)."""

    account: str
    account_key: str = field(repr=False)
    expires_at: datetime | None = None


type Credentials = S3Credentials | GCSCredentials | AzureCredentials
type CredentialProvider = Callable[[], Credentials | Awaitable[Credentials]]


class CredentialSource[C: S3Credentials | GCSCredentials | AzureCredentials]:
    """Hands out credentials of one kind, and asks the provider again shortly before they expire.

    One caller refreshes while the others wait for it. While a refresh fails, credentials that are
    still valid stay in use.
    """

    def __init__(self, kind: type[C], given: "Credentials | CredentialProvider | None") -> None:
        self._kind = kind
        self._provider = given if callable(given) else None
        self._current: C | None = None if given is None or callable(given) else self._of_kind(given)
        self._anonymous = given is None
        self._lock = asyncio.Lock()
        self._refresh_at = self._when(self._current)

    @property
    def anonymous(self) -> bool:
        """Tell whether there are no credentials at all."""
        return self._anonymous

    @property
    def static(self) -> C | None:
        """Return the credentials if they never change."""
        return self._current if self._provider is None else None

    async def get(self) -> C:
        """Return credentials that are valid now.

        Raises `AccessDenied` where none were given or where the provider fails and nothing valid is
        left.
        """
        current = self._current
        if current is not None and time.time() < self._refresh_at:
            return current
        return await self._refreshed()

    async def _refreshed(self) -> C:
        async with self._lock:
            if self._current is not None and time.time() < self._refresh_at:
                return self._current
            if self._provider is None:
                raise AccessDenied(self._missing())
            try:
                self._current = self._of_kind(await self._ask(self._provider))
            except AccessDenied:
                raise
            except Exception as exc:
                if self._still_valid():
                    return self._current  # type: ignore[return-value]  # _still_valid says that it is there
                raise AccessDenied(
                    f"The credentials provider failed: {type(exc).__name__}."
                ) from exc
            self._refresh_at = self._when(self._current)
            return self._current

    @staticmethod
    async def _ask(provider: CredentialProvider) -> object:
        answer: object = provider() if inspect.iscoroutinefunction(provider) else None
        if answer is None:
            answer = await asyncio.to_thread(provider)
        return await answer if inspect.isawaitable(answer) else answer

    def _of_kind(self, given: object) -> C:
        if not isinstance(given, self._kind):
            raise AccessDenied(
                f"This endpoint needs {self._kind.__name__}, and got {type(given).__name__}."
            )
        return given

    def _still_valid(self) -> bool:
        expires = None if self._current is None else self._current.expires_at
        return expires is not None and datetime.now(UTC) < expires

    def _missing(self) -> str:
        state = "there are none" if self._anonymous else "the given ones expired"
        return (
            f"This needs {self._kind.__name__}, and {state}: "
            "pass credentials= or a provider that refreshes."
        )

    @staticmethod
    def _when(credentials: Credentials | None) -> float:
        if credentials is None:
            return 0.0
        if credentials.expires_at is None:
            return float("inf")
        return (credentials.expires_at - REFRESH_MARGIN).timestamp()

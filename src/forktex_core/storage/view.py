# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One bucket, or what is below a prefix of it, over a connection that others share."""

from .backends.protocol import Backend
from .connection import Connection
from .keys import normalize_key
from .objects import ObjectInfo


class View:
    """Where a client looks: it knows keys as the caller writes them, the store has its prefix."""

    _connection: Connection
    _bucket: str
    _prefix: str

    @property
    def bucket(self) -> str:
        """The bucket (container, folder) that the objects are in."""
        return self._bucket

    @property
    def prefix(self) -> str:
        """What stands before each key in the bucket: empty, or with a slash at its end."""
        return self._prefix

    @property
    def _backend(self) -> Backend:
        return self._connection.backend(self._bucket)

    def _key(self, key: str) -> str:
        return normalize_key(key, prefix=self._prefix)

    def _shown(self, info: ObjectInfo) -> ObjectInfo:
        """Return a description with the key as the caller knows it."""
        return info._replace(key=info.key.removeprefix(self._prefix)) if self._prefix else info

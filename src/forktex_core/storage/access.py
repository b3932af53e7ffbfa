# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""What may be done with an object by somebody who has no credentials of the store."""

from enum import StrEnum


class PublicAccess(StrEnum):
    """What a signed URL, or a public area, lets its holder do.

    ``none``: nothing; ``read``: fetch the object; ``write``: store an object under that key.
    """

    none = "none"
    read = "read"
    write = "write"

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Secrets at rest: encryption on Fernet, encrypted columns, and keys that rotate under load."""

from forktex_core.vault.blind_index import BlindDigest, BlindIndex
from forktex_core.vault.columns import EncryptedBytes, EncryptedJSON, EncryptedText
from forktex_core.vault.errors import (
    DecryptionError,
    ExpiredTokenError,
    InvalidKeyError,
    MalformedTokenError,
    NotSearchableError,
    PayloadError,
    PayloadTooLargeError,
    RotationError,
    TamperedTokenError,
    UnknownKeyError,
    UnverifiedTokenError,
    VaultError,
)
from forktex_core.vault.report import CorruptRow, RotationProgress, RotationReport
from forktex_core.vault.rotation import rotate_blobs
from forktex_core.vault.token import TokenInfo, inspect_token
from forktex_core.vault.vault import Vault

__all__ = [
    "BlindDigest",
    "BlindIndex",
    "CorruptRow",
    "DecryptionError",
    "EncryptedBytes",
    "EncryptedJSON",
    "EncryptedText",
    "ExpiredTokenError",
    "InvalidKeyError",
    "MalformedTokenError",
    "NotSearchableError",
    "PayloadError",
    "PayloadTooLargeError",
    "RotationError",
    "RotationProgress",
    "RotationReport",
    "TamperedTokenError",
    "TokenInfo",
    "UnknownKeyError",
    "UnverifiedTokenError",
    "Vault",
    "VaultError",
    "inspect_token",
    "rotate_blobs",
]

# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""RSA signatures with the private keys that Google and Amazon hand out."""

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key


@lru_cache(maxsize=16)
def _load(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except ValueError as exc:
        raise ValueError("The private key is not an unencrypted PEM key.") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("The private key is not an RSA key.")  # the value is wrong, not its type
    return key


def sign(pem: str, text: bytes, algorithm: HashAlgorithm) -> bytes:
    """Return the PKCS #1 v1.5 signature of the text; the parsed key is kept for the next call."""
    return _load(pem).sign(text, padding.PKCS1v15(), algorithm)

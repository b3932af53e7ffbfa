# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""CloudFront signed URLs by a key pair.

Source: AWS, "Creating a signed URL using a canned policy" and "using a custom policy" in the
CloudFront Developer Guide, which prescribes RSA with SHA-1 for RSA key pairs.
"""

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA1

from . import rsa_key

_FOR_URLS = str.maketrans({"+": "-", "=": "_", "/": "~"})


@dataclass(frozen=True, slots=True)
class CloudFrontSigner:
    """Signs URLs for a distribution that trusts the public half of this key pair."""

    key_pair_id: str
    private_key: str = field(repr=False)

    def sign(self, url: str, *, expires: datetime) -> str:
        """Return the URL with a canned policy: readable until ``expires`` (a UTC moment)."""
        moment = int(expires.timestamp())
        document = {
            "Statement": [
                {"Resource": url, "Condition": {"DateLessThan": {"AWS:EpochTime": moment}}}
            ]
        }
        policy = json.dumps(document, separators=(",", ":")).encode()
        # SHA-1 is what CloudFront verifies; the URL, the moment and nothing else is chosen by the
        # signer.
        signed = rsa_key.sign(self.private_key, policy, SHA1())  # noqa: S303  # prescribed by CloudFront
        signature = base64.b64encode(signed).decode().translate(_FOR_URLS)
        mark = "&" if "?" in url else "?"
        return f"{url}{mark}Expires={moment}&Signature={signature}&Key-Pair-Id={self.key_pair_id}"

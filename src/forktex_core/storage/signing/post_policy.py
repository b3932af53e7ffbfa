# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The policy document of a browser upload: what a form may send, to the byte.

Source: AWS, "Browser-Based Uploads Using POST"; Google Cloud, "Policy document". Both read the same
document.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime


def encode(
    *,
    bucket: str,
    key: str,
    expires: datetime,
    max_bytes: int,
    content_type: str | None,
    fields: Mapping[str, str],
) -> str:
    """Return the base64 policy that admits one object of at most ``max_bytes`` under exactly this
    key.

    ``content_type`` may end in ``/*`` to admit a family. ``fields`` must be sent exactly so.
    """
    conditions: list[object] = [{"bucket": bucket}, {"key": key}]
    conditions.append(["content-length-range", 0, max_bytes])
    if content_type is not None and content_type.endswith("/*"):
        conditions.append(["starts-with", "$Content-Type", content_type[:-1]])
    elif content_type is not None:
        conditions.append({"Content-Type": content_type})
    conditions.extend({name: value} for name, value in fields.items())
    document = {"expiration": f"{expires:%Y-%m-%dT%H:%M:%S.000Z}", "conditions": conditions}
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()

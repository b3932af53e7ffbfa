# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The wire form of a job, pure.

A message is four lines: id, name, options, arguments. Options are a JSON object, or nothing at all
for most
jobs; arguments are JSON that nobody reads but the job's own codec. JSON has no raw line break, so
the first
three breaks are the only ones that count. Lua reads the same form (``lua/prelude.lua``).
"""

import base64
import json
import os
import time
from binascii import b2a_base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ID_BYTES = 12
CLOCK_BYTES = 6
URL_SAFE = bytes.maketrans(b"+/", b"-_")

# The keys of a message's options. They are short because they are stored with the job.
ATTEMPT = "a"  # failures so far
CRASHES = "d"  # workers that died with the job in hand
PRIORITY = "p"  # "h" or "l"; absent: "n"
EXPIRES = "x"  # ms since the epoch
KEY = "k"  # the caller's key, for limits
UNIQUE = "u"  # name of the unique key that the job holds
UNIQUE_MODE = "U"  # "q" while queued, "d" until done, "p" for a period
BATCH = "b"  # id of the batch it belongs to
BATCH_RESULT = "B"  # [total, failed], given to a batch's callback
GRANTS = "g"  # rates that have reserved a turn for it
KEEP = "r"  # ms that its result is kept
TRACE = "t"  # W3C traceparent


def new_id() -> str:
    """A job id: 48 bits of milliseconds and 48 random bits, in 16 URL-safe characters."""
    clock = int(time.time() * 1000).to_bytes(CLOCK_BYTES)
    text = b2a_base64(clock + os.urandom(ID_BYTES - CLOCK_BYTES), newline=False)
    return text.translate(URL_SAFE).decode()


def born(job_id: str) -> datetime:
    """When a job id was made, by the clock of the caller who enqueued the job."""
    stored = base64.urlsafe_b64decode(job_id)
    if len(stored) != ID_BYTES:
        raise ValueError(f"{job_id!r} has {len(stored)} bytes, not {ID_BYTES}")
    clock = stored[:CLOCK_BYTES]
    return datetime.fromtimestamp(int.from_bytes(clock) / 1000, UTC)


@dataclass(slots=True)
class Message:
    """A job on its way: ``arguments`` are JSON, ``options`` are keyed by this module's
    constants."""

    id: str
    name: str
    arguments: bytes
    options: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The wire form."""
        options = json.dumps(self.options, separators=(",", ":")) if self.options else ""
        return f"{self.id}\n{self.name}\n{options}\n".encode() + self.arguments

    @classmethod
    def decode(cls, wire: bytes) -> "Message":
        """The message of a wire form; ValueError when it is none."""
        head, name, text, arguments = wire.split(b"\n", 3)
        options = json.loads(text) if text else {}
        if not isinstance(options, dict):
            raise ValueError(f"options of a job are an object, not {text!r}")
        return cls(head.decode(), name.decode(), arguments, options)

    @classmethod
    def read(cls, wire: bytes) -> "Message":
        """The same for what may be no message (somebody else wrote it): that has no name."""
        try:
            return cls.decode(wire)
        except ValueError:
            return cls("", "", wire)

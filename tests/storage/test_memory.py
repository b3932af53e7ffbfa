# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Objects of any size pass through a process of limited memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.servers import S3

ROOT = Path(__file__).parents[2]


def moved(s3: S3, bucket: str, mebibytes: int, folder: Path | str = "") -> int:
    """The MiB by which a process grew that streamed so much up and down, and through a file."""
    program = Path(__file__).with_name("moving.py")
    command = [sys.executable, program, s3.url, bucket, str(mebibytes), folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    before, most = map(int, done.stdout.split())
    return (most - before) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_stays_constant(s3: S3, bucket: str) -> None:
    """160 MiB, streamed there and back, add less than 120 MiB to a process."""
    assert moved(s3, bucket, 160) < 120


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_two_gibibytes_through_a_small_process(s3: S3, bucket: str, tmp_path: Path) -> None:
    """2 GiB, streamed and through a file there and back, add less than 200 MiB."""
    assert moved(s3, bucket, 2048, tmp_path) < 200

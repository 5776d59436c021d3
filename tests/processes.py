"""Processes that a test starts, for tests of several at once."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def finish(processes: Sequence[subprocess.Popen[bytes]], timeout: float) -> None:
    """Wait for each, at most ``timeout`` seconds; fail with what it said if it failed."""
    for process in processes:
        try:
            _, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, errors.decode()

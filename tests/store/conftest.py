"""The oracle over every test here: threads and descriptors are as they were, and no error is in the log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.threaded.conftest import (
    _nothing_left_behind,
    may_log_errors,
    pytest_runtest_makereport,
)

__all__ = ["_nothing_left_behind", "may_log_errors", "pytest_runtest_makereport"]


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a thing: for tests that open hundreds of stores."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)

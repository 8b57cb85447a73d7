"""The budget of Python calls per message: a count, so it does not depend on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import linkbox
from benchmarks.calls import LIMITS

MEASURE = """
import sys
from benchmarks.calls import LIMITS, count, verdict
name = sys.argv[1]
found = count(name)
print(verdict(name, found))
# Not those of background threads: they work by the clock, and make more calls on a busy machine.
sys.exit(found.calls > LIMITS[name].calls)
"""


pytestmark = pytest.mark.skipif(linkbox.compiled, reason="the calls of compiled functions cannot be counted")


@pytest.mark.parametrize("scenario", LIMITS)
def test_calls_per_message(scenario: str, root: Path, environment: dict[str, str]) -> None:
    """In a process of its own: other tests leave threads behind, and coverage profiles too."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, scenario],
        cwd=root,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""What the tests of the project itself share: where it stands, and how to run a script of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture
def environment() -> dict[str, str]:
    """For processes that are not measured: coverage is for the tests to earn, not for the examples."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


@pytest.fixture
def run_script(tmp_path: Path, environment: dict[str, str]) -> Callable[[Path], None]:
    """Run a Python file as a user would, in an empty folder; fail unless it ends well within 30 seconds."""

    def run(script: Path) -> None:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error", str(script)],
                cwd=tmp_path,
                env=environment | {"PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
            pytest.fail(f"{script.name} still ran after 30 s. Its output:\n{output}", pytrace=False)
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            pytest.fail(f"{script.name} ended with {done.returncode}. Its output:\n{output}", pytrace=False)
        # A daemon thread or a finaliser that fails does not change the exit status.
        if "Traceback (most recent call last)" in output:
            pytest.fail(f"{script.name} printed a traceback:\n{output}", pytrace=False)

    return run

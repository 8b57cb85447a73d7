"""The tests here see only processes that they have started: each has a runtime folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linkbox import monitor
from linkbox.operations import process_hooks
from tests.threaded.conftest import _nothing_left_behind, may_log_errors, pytest_runtest_makereport

__all__ = ["_nothing_left_behind", "may_log_errors", "pytest_runtest_makereport"]  # theirs hold here too


@pytest.fixture(autouse=True)
def no_others() -> Iterator[None]:
    """Endpoints that earlier tests of this process have not stopped are not seen."""
    others = set(process_hooks.started)
    process_hooks.started.clear()
    yield
    process_hooks.started.update(others)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder for sockets. Not in tmp_path: a socket has a short name at most."""
    with tempfile.TemporaryDirectory(prefix="lkb") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)
        monitor.stop()


@pytest.fixture
def start_program(runtime: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start Python code in a monitored process of its own. It must print a line when it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        environment = os.environ | {"LINKBOX_MONITOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

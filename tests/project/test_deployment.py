"""docs/deployment.md: the program there runs as systemd starts it, and an update loses nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkbox import ClientP2M, Json

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")

COUNT = 40
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, sys.argv[2]])
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What systemd holds."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Service:
    """Starts the program of the page with the socket as descriptor 3."""

    def __init__(self, root: Path, folder: Path, environment: dict[str, str], listener: socket.socket):
        page = (root / "docs" / "deployment.md").read_text(encoding="utf-8")
        code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
        assert code is not None
        self.program = folder / "logger.py"
        self.program.write_text(code[1], encoding="utf-8")
        self.environment, self.listener = environment, listener

    def start(self) -> subprocess.Popen[str]:
        number = self.listener.fileno()
        return subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(number), str(self.program)],
            cwd=self.program.parent,
            env=self.environment,
            pass_fds=[number],
            stderr=subprocess.PIPE,
            text=True,
        )


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_an_update_loses_nothing(
    root: Path, tmp_path: Path, environment: dict[str, str], listener: socket.socket
) -> None:
    service = Service(root, tmp_path, environment, listener)
    half = threading.Event()

    def push() -> None:
        with ClientP2M(listener.getsockname(), Json, name="sensor", linger=5) as client:
            for number in range(COUNT):
                client.send(number, timeout=30)
                if number == COUNT // 2:
                    half.set()

    sensor = threading.Thread(target=push)
    sensor.start()  # it connects before there is a program: the connection waits in the socket
    process = service.start()
    try:
        assert half.wait(30)
        stop(process)
        process = service.start()
        sensor.join(30)
        assert not sensor.is_alive()
        stop(process)
    finally:
        process.kill()
        process.communicate()
    lines = (tmp_path / "readings.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"sensor {number}" for number in range(COUNT)]

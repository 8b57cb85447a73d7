"""Commands in processes that are forked from one which has imported the command line already.

Starting Python and importing the command line takes longer than most of these tests. A forked process is like
one that was started: it has its own arguments, folder, environment and standard streams, gets signals, and
ends as the interpreter ends. What a shell does to streams before Python starts is tested with `COMMAND`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

CAN_FORK = sys.platform == "linux"


# -- the process that forks ----------------------------------------------------------------------------


def serve(control: socket.socket) -> bool:
    """Fork a process for each order. Returns True in each of them, and False at the end."""
    wake, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    ends: dict[int, int] = {}
    ready = selectors.DefaultSelector()
    ready.register(control, selectors.EVENT_READ)
    ready.register(wake, selectors.EVENT_READ)
    while True:
        found = [key.fileobj for key, _ in ready.select()]
        if wake in found:
            wake.recv(4096)
            reap(ends)
        if control not in found:
            continue
        data, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not data:
            return False
        if pid := os.fork():
            ends[pid] = fds.pop()
            for fd in fds:
                os.close(fd)
            control.send(b"%d" % pid)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ready.close()
        for each in (control, wake, written):
            each.close()
        for fd in (*ends.values(), fds.pop()):
            os.close(fd)
        become(json.loads(data), fds)
        return True


def reap(ends: dict[int, int]) -> None:
    """Report the processes that have ended."""
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        end = ends.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            os.write(end, b"%d" % os.waitstatus_to_exitcode(status))
        os.close(end)


def become(order: dict[str, Any], fds: list[int]) -> None:
    """In the forked process: take over what the order says."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[0] = order["cwd"]
    sys.argv[1:] = order["arguments"]


# -- its user ------------------------------------------------------------------------------------------


class Forked:
    """One of the processes, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, end: int, pipes: list[IO[bytes] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = pipes
        self.returncode: int | None = None
        self._end = end
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._end], [], [], 0)[0]:
                self.returncode = int(os.read(self._end, 100))
                os.close(self._end)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._end], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("linkbox", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forker:
    """Starts commands."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, __file__, str(number)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])
        self._lock = threading.Lock()

    def start(self, arguments: list[str], stdin: Any, cwd: Path, env: Mapping[str, str]) -> Forked:
        """Like `subprocess.Popen`, with pipes for stdout and stderr."""
        ours: list[IO[bytes] | None] = []
        theirs: list[int] = []
        for number in range(3):
            if number == 0 and stdin == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
                ours.append(None)
            else:
                read, write = os.pipe()
                theirs.append(write if number else read)
                ours.append(os.fdopen(read, "rb") if number else os.fdopen(write, "wb"))
        end, report = os.pipe()
        order = {"arguments": arguments, "cwd": str(cwd), "env": dict(env)}
        try:
            with self._lock:
                socket.send_fds(self._control, [json.dumps(order).encode()], [*theirs, report])
                pid = int(self._control.recv(100))
        finally:
            for fd in (*theirs, report):
                os.close(fd)
        return Forked(pid, end, ours)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


LATE = (
    "typer._adapters",
    "typer.rich_utils",
    "rich.markdown",
    "rich.panel",
    "linkbox.store.sqlite",
    "email.message",
)
"""Imported by commands when they need it."""

if __name__ == "__main__":
    import linkbox.cli.app  # noqa: F401  (forked processes have it)
    from linkbox.cli import main

    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

    if serve(socket.socket(fileno=int(sys.argv[1]))):
        main()

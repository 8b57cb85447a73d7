"""A process full of idle connections: ``python -m benchmarks.idle ADDRESS COUNT SOURCE [PATTERN]``.

It ends when its parent ends it, or closes its stdin. With a pattern it says what a client of linkbox says
first, and is welcomed; without one it only connects. `Crowd` starts as many of them as are needed: a process
may have only so many descriptors, and one loopback address only so many ports.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from types import TracebackType

from benchmarks.measure import most_files, raise_file_limit

EACH = 5_000
"""Connections of one process, and of one loopback address: far fewer than it has ports."""
# The port is chosen when the socket connects: one that is connected to another server is free for it.
# Python has no name for this option before 3.12.
_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


def possible(count: int) -> int:
    """So many connections, or what one server may have here: it keeps a fifth of the descriptors."""
    return min(count, most_files() * 4 // 5 - 100)


def hello(pattern: str) -> bytes:
    """What a client says first."""
    from linkbox.core.wire import frames
    from linkbox.core.wire import handshake_messages as handshake

    message = handshake.Hello(
        pattern=pattern,
        format="bytes",
        name="bare",
        session=uuid.uuid4().hex,
        epoch=1,
        credit=(1 << 20, 1000),
        message=1 << 20,
        received=0,
        resumes=False,
    )
    return frames.preface() + handshake.encode_hello(message)


def open_links(url: str, count: int, pattern: str = "", source: str = "127.0.0.1") -> list[socket.socket]:
    """So many connections; of linkbox's links, each welcomed."""
    host, port = url.removeprefix("tcp://").rsplit(":", 1)
    links = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
        sock.connect((host, int(port)))
        if pattern:
            sock.sendall(hello(pattern))
            assert sock.recv(65536)
        links.append(sock)
    return links


class Crowd:
    """Processes that hold so many connections in all."""

    def __init__(self, url: str, count: int, pattern: str = "") -> None:
        self._processes = []
        for number, at in enumerate(range(0, count, EACH)):
            size = str(min(EACH, count - at))
            command = [sys.executable, "-m", "benchmarks.idle", url, size, f"127.0.0.{number + 2}", pattern]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))

    def check(self) -> None:
        """All of them are well."""
        for process in self._processes:
            if process.poll() is not None:
                raise AssertionError(f"idle connections ended with status {process.returncode}")

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()


def rss() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    raise_file_limit()
    held = open_links(sys.argv[1], int(sys.argv[2]), sys.argv[4], sys.argv[3])
    sys.stdin.read()

"""Reads what all monitored processes of this user do, and how fast: for ``linkbox top`` and its page."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from linkbox import ClientAR, Limits, LinkboxError, Typed
from linkbox.monitor.folder import sockets
from linkbox.monitor.server import Query, make_quiet
from linkbox.snapshots import EndpointSnapshot, ProcessSnapshot

PATIENCE = 2.0
"""Seconds after which a process that does not answer is reported as such."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of any process, with rates per second since the last reading."""

    key: str
    """Identifies the endpoint: the id of its process, and its number."""
    pid: int
    program: str
    endpoint: EndpointSnapshot
    sent_rate: float = 0.0
    received_rate: float = 0.0
    bytes_sent_rate: float = 0.0
    bytes_received_rate: float = 0.0


class Reader:
    """Reads all processes again and again. Use it from one thread at a time, and close it."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._clients: dict[int, ClientAR[Any, Any]] = {}
        self._pool = ThreadPoolExecutor(16, "linkbox monitor")
        self._before: dict[str, tuple[float, EndpointSnapshot]] = {}

    def processes(self) -> list[ProcessSnapshot]:
        """What all monitored processes do. One that does not answer has an ``error``."""
        found = sockets()
        for pid in self._clients.keys() - found.keys():
            self._clients.pop(pid).stop(0.0)
        made = self._pool.map(lambda item: self._read(*item), found.items())
        return [each for each in made if each is not None]

    def rows(self) -> tuple[list[Row], list[ProcessSnapshot]]:
        """The endpoints of all processes, with rates; and the processes that did not answer."""
        found = self.processes()
        before, self._before = self._before, {}
        rows = []
        for process in found:
            for endpoint in process.endpoints:
                key = f"{process.pid}.{endpoint.number}"
                then, old = before.get(key, (process.at, endpoint))
                rows.append(_row(key, process, endpoint, old, process.at - then))
                self._before[key] = (process.at, endpoint)
        return rows, [each for each in found if each.error]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.stop(0.0)
        self._clients.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, pid: int, path: Path) -> ProcessSnapshot | None:
        client = self._clients.get(pid)
        if client is None:
            client = self._clients[pid] = ClientAR(
                f"unix://{path}",
                Typed(Query, ProcessSnapshot),
                limits=Limits(message=64 * 1024 * 1024),
                keep_alive=True,
                reconnect=None,
                connect_timeout=self._patience,
            )
            make_quiet(client)
        try:
            found: ProcessSnapshot = client.ask(Query(), timeout=self._patience)
            return found
        except LinkboxError as error:
            self._clients.pop(pid).stop(0.0)
            if not _is_alive(pid):
                path.unlink(missing_ok=True)  # It was killed, and could not remove its socket.
                return None
            why = f"does not answer: {error}"
            return ProcessSnapshot(pid=pid, program="?", version="", at=time.time(), endpoints=[], error=why)


def processes() -> list[ProcessSnapshot]:
    """What all monitored processes of this user do now. One that does not answer has an ``error``."""
    reader = Reader()
    try:
        return reader.processes()
    finally:
        reader.close()


def _row(
    key: str, process: ProcessSnapshot, new: EndpointSnapshot, old: EndpointSnapshot, seconds: float
) -> Row:
    def rate(now: int, then: int) -> float:
        return max(0, now - then) / seconds if seconds > 0 else 0.0

    return Row(
        key=key,
        pid=process.pid,
        program=process.program,
        endpoint=new,
        sent_rate=rate(new.messages_sent, old.messages_sent),
        received_rate=rate(new.messages_received, old.messages_received),
        bytes_sent_rate=rate(new.bytes_sent, old.bytes_sent),
        bytes_received_rate=rate(new.bytes_received, old.bytes_received),
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True

"""P2M: processes measure this machine and push the values into one mailbox."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psutil

from linkbox import ClientP2M, Event, EventKind, Json, Message, ServerP2M
from linkbox.cli.demo.part import (
    PATIENCE,
    Check,
    Child,
    ChildFailed,
    Line,
    Tally,
    compare,
    failure,
    messages_of,
    size,
    ticks,
)

RATE = 50.0
"""Messages per second of each process."""


def canonical(value: Any) -> bytes:
    """Encode a value so that equal values have equal bytes."""
    return msgspec.json.encode(value, order="sorted")


# -- the children ----------------------------------------------------------------------------------


class _Cpu:
    """Measures the CPU load every half second: over 20 ms it would be noise."""

    def __init__(self) -> None:
        self._calls = 0
        self._percent = 0.0

    def __call__(self) -> dict[str, Any]:
        if not self._calls % (int(RATE) // 2):
            # The first call has no earlier one to compare with, so it measures over 0.1 s.
            self._percent = psutil.cpu_percent(interval=None if self._calls else 0.1)
        self._calls += 1
        return {"percent": self._percent, "cores": psutil.cpu_count()}


def _memory() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {"percent": memory.percent, "used": memory.used, "total": memory.total}


def _network() -> dict[str, Any]:
    counters = psutil.net_io_counters()
    return {"sent": counters.bytes_sent, "received": counters.bytes_recv} if counters else {}


def _load() -> dict[str, Any]:
    one, five, fifteen = psutil.getloadavg()
    return {"1 min": one, "5 min": five, "15 min": fifteen, "cores": psutil.cpu_count()}


SOURCES: dict[str, Callable[[], dict[str, Any]]] = {
    "cpu": _Cpu(),
    "memory": _memory,
    "network": _network,
    "load": _load,
}


def push(name: str, address: str, seconds: float) -> dict[str, Any]:
    """The work of a child: measure and push, without waiting for the network."""
    measure = SOURCES[name]
    errors: list[str] = []
    tally = Tally()
    with ClientP2M(address, Json(), blocking=False, linger=1.0, name=name) as client:
        client.add_callback(lambda event: errors.append(str(event.error)), EventKind.ERROR)
        for number in ticks(seconds, RATE):
            message = {"n": number, "of": os.getpid(), "at": time.time(), "what": name, **measure()}
            client.send(message)
            tally.add(canonical(message))
        client.flush(timeout=PATIENCE)
    return {"sent": tally.report(), "errors": errors}


# -- the server --------------------------------------------------------------------------------------


class Metrics:
    """A ServerP2M: a callback counts the events, and a polling thread takes the data."""

    title = "P2M · processes push measurements of this machine (Json)"

    def __init__(self) -> None:
        self.happened: list[tuple[float, str]] = []
        self._server = ServerP2M("tcp://127.0.0.1:0", Json())
        self._children: list[Child] = []
        self._tallies = {name: Tally() for name in SOURCES}
        self._last: dict[str, dict[str, Any]] = {}
        self._events = 0
        self._taker = threading.Thread(target=self._take_all, daemon=True)

    def start(self, seconds: float) -> None:
        """Start the server and its clients."""
        self._server.add_callback(self._on_event)
        self._server.start()
        self._taker.start()
        self._children = [Child("p2m", name, self._server.address, seconds) for name in SOURCES]

    def _on_event(self, event: Event) -> None:
        self._events += 1

    def _take_all(self) -> None:
        for message in messages_of(self._server):
            self.take(message)

    def take(self, message: Message[Any]) -> None:
        """Count a received message."""
        assert message.peer is not None
        name = message.peer.name
        self._tallies[name].add(canonical(message.data))
        self._last[name] = message.data

    def lines(self) -> list[Line]:
        """The current state."""
        return [
            Line(name, tally.count, *_shown(name, self._last.get(name)))
            for name, tally in self._tallies.items()
        ]

    def finish(self) -> list[Check]:
        """Wait for the clients, stop, compare."""
        reports: dict[str, dict[str, Any] | ChildFailed] = {}
        for child in self._children:
            try:
                reports[child.name] = child.report()
            except ChildFailed as error:
                reports[child.name] = error
        self.close()
        self._taker.join(PATIENCE)
        checks = [self._check(name, report) for name, report in reports.items()]
        # Exactly one event for each message.
        taken = sum(tally.count for tally in self._tallies.values())
        is_fine = self._events == taken
        verdict = "one event each" if is_fine else "events and messages differ"
        return [*checks, Check("P2M", "events", taken, self._events, verdict, is_fine)]

    def _check(self, name: str, report: dict[str, Any] | ChildFailed) -> Check:
        if isinstance(report, ChildFailed):
            return failure("P2M", name, report)
        problem = "; ".join(report["errors"])
        received = self._tallies[name].report()
        return compare("P2M", name, report["sent"], received, "equal, in order", problem)

    def close(self) -> None:
        """Stop everything."""
        for child in self._children:
            child.kill()
        self._server.stop()


def _shown(name: str, data: dict[str, Any] | None) -> tuple[str, float | None]:
    """The measured values as text, and as a part of 1."""
    if data is None:
        return "…", None
    if name == "cpu":
        return f"{data['percent']:.0f} % of {data['cores']} cores", data["percent"] / 100
    if name == "memory":
        return f"{size(data['used'])} of {size(data['total'])}", data["percent"] / 100
    if name == "load":
        return f"{data['1 min']:.2f} on {data['cores']} cores", data["1 min"] / (data["cores"] or 1)
    return f"out {size(data.get('sent', 0))}, in {size(data.get('received', 0))}", None

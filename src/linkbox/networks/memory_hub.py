"""A network inside one process: byte streams in memory between any endpoints, threaded or asyncio.

How to think about it. A `MemoryHub` is the whole network: the listening names, all connections, the clock and
the faults. An endpoint has one `Station` on it from ``start()`` to ``stop()``. A connection is two
`MemoryEnd` objects that behave as two connected sockets do: a bounded buffer in each direction, half-close,
reset. `memory.py` connects the stations to the endpoints.

Two locks. The hub's lock protects the state in this module. It is held for short times, and no other lock is
taken under it. Other state belongs to one endpoint, under its own lock or on its event loop. A station has a
doorbell (`Bell`), which any thread may call to notify the endpoint.

`linkbox.testing.MemoryNetwork` is the public interface.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic, sleep

from linkbox.address import Address
from linkbox.core.connection import Buffer
from linkbox.core.connection import Connection as Link
from linkbox.core.timers import NEVER
from linkbox.errors import ListenFailed
from linkbox.networks.network import Listener

NO_NETWORK = "there is no memory network: use it inside `with linkbox.testing.MemoryNetwork():`"
REST = 10.0
"""Seconds of real time in which all endpoints must become idle."""


class Bell:
    """Notifies an endpoint. May be called from any thread."""

    def ring(self) -> None:
        """Notify the endpoint that something has arrived. Also called under the hub's lock."""
        raise NotImplementedError

    def clock_moved(self) -> None:
        """A manual clock was advanced: let the driver check every deadline."""
        raise NotImplementedError

    def next_timer(self) -> float:
        """The next timer of the endpoint."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Is the driver idle?"""
        raise NotImplementedError

    def blocks(self) -> bool:
        """Would waiting on this thread keep the endpoint from working?"""
        return False


class Station:
    """A started endpoint on the network."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.noted: deque[MemoryEnd] = deque()
        """Ends that the endpoint must check."""
        self.callers: deque[MemoryEnd] = deque()
        """Connections that wait to be accepted."""

    def is_at_rest(self, now: float) -> bool:
        """Is the endpoint idle at this time? Call from any thread except that of its event loop."""
        return self.bell.is_idle() and not (self.noted or self.callers) and self.bell.next_timer() > now


class MemoryEnd:
    """One end of a connection.

    ``link`` and ``unsent`` belong to the endpoint; the hub's lock protects the rest.
    """

    __slots__ = (
        "has_fin",
        "hub",
        "incoming",
        "is_closed",
        "is_noted",
        "is_reset",
        "link",
        "other",
        "station",
        "unsent",
        "wants_room",
    )

    def __init__(self, hub: MemoryHub, station: Station) -> None:
        self.hub: MemoryHub = hub
        self.station: Station = station
        self.other: MemoryEnd = self
        self.link: Link | None = None
        """None until it is accepted, and once it is closed."""
        self.incoming: bytearray = bytearray()
        """Bytes in transit to this end."""
        self.has_fin: bool = False
        """Has the other end closed its half?"""
        self.is_reset: bool = False
        """Does writing fail, and reading after everything that has arrived?"""
        self.is_closed: bool = False
        self.is_noted: bool = False
        """Is it in ``noted`` of its station?"""
        self.wants_room: bool = False
        """Is anything unsent because the buffer of the other end was full?"""
        self.unsent: list[Buffer] = []

    def read(self) -> bytes | None:
        """Return what has arrived. Empty: the other end has closed its half. None: nothing for now."""
        hub = self.hub
        with hub.lock:
            if hub.is_held and not self.is_reset:
                return None
            if not self.incoming:
                if self.is_reset:
                    raise ConnectionResetError("the connection was reset")
                return b"" if self.has_fin else None
            data = bytes(self.incoming[: hub.chunk])
            del self.incoming[: len(data)]
            if self.other.wants_room:
                self.other.wants_room = False
                self.other.note()
            if self.incoming or self.has_fin or self.is_reset:
                self.note()
            return data

    def write(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Write as much as there is room for; return the rest."""
        hub, other = self.hub, self.other
        with hub.lock:
            if self.is_reset or other.is_closed:
                self.is_reset = True
                self.note()
                raise BrokenPipeError("the peer has closed the connection")
            room = hub.capacity - len(other.incoming)
            rest: list[Buffer] = []
            for buffer in buffers:
                other.incoming += buffer[: max(room, 0)]
                if len(buffer) > room:
                    rest.append(memoryview(buffer)[max(room, 0) :])
                room -= len(buffer)
            self.wants_room = bool(rest)
            other.note()
            return rest

    def finish(self) -> None:
        """Half-close: the other end reads the bytes in transit, then the end of the stream."""
        with self.hub.lock:
            self.other.has_fin = True
            self.other.note()

    def close(self, is_abortive: bool) -> None:
        """Close. As with a kernel, closing with unread bytes resets the connection."""
        with self.hub.lock:
            if self.is_closed:
                return
            self.is_closed = True
            self.hub.ends.discard(self)
            if self.incoming or is_abortive:
                self.other.break_off()
            self.other.has_fin = True
            self.other.note()
            if self.other.is_closed:  # Two that refer to each other would only be freed by the collector.
                self.other.other = self.other = self.hub.gone

    def break_off(self) -> None:
        """Reset this end. Under the hub's lock."""
        self.is_reset = True
        self.incoming.clear()
        self.note()

    def note(self) -> None:
        """Let the endpoint check this end. Under the hub's lock."""
        self.hub.moves += 1
        if not self.is_noted and not self.is_closed:
            self.is_noted = True
            self.station.noted.append(self)
            self.station.bell.ring()


class MemoryHub:
    """One memory network."""

    def __init__(self, capacity: int, chunk: int, now: Callable[[], float] | None) -> None:
        self.capacity = capacity
        """Most bytes in transit to one end: then its peer must wait before it writes more."""
        self.chunk = chunk
        """Most bytes read at a time."""
        self.now: Callable[[], float] = monotonic if now is None else now
        self.has_manual_clock: bool = now is not None
        self.lock: threading.Lock = threading.Lock()
        self.listeners: dict[str, MemoryListener] = {}
        self.ends: set[MemoryEnd] = set()
        """All ends of connections that are not closed."""
        self.gone: MemoryEnd = MemoryEnd(self, Station(Bell()))
        """In place of the other end of a connection of which both are closed."""
        self.gone.is_closed = True
        self.stations: set[Station] = set()
        self.is_held: bool = False
        """Are bytes and half-closes held in transit?"""
        self.moves = 0
        """The number of changes so far."""
        self.is_refusing = False
        """Does every attempt to connect fail?"""

    def connect(self, station: Station, name: str) -> MemoryEnd:
        """Connect to the server at a name; return the client's end."""
        with self.lock:
            listener = self.listeners.get(name)
            if listener is None or listener.station is None:
                raise ConnectionRefusedError("nobody listens there; is the server started?")
            if self.is_refusing:
                raise ConnectionRefusedError("the network refuses connections, as the test says")
            near, far = MemoryEnd(self, station), MemoryEnd(self, listener.station)
            near.other, far.other = far, near
            self.ends |= {near, far}
            listener.station.callers.append(far)
            listener.station.bell.ring()
            return near

    def count(self) -> int:
        """The number of connections."""
        with self.lock:
            return self._count()

    def _count(self) -> int:
        return sum(end.other.is_closed or id(end) < id(end.other) for end in self.ends)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        with self.lock:
            count = self._count()
            for end in self.ends:
                end.break_off()
        return count

    def hold(self, is_held: bool) -> None:
        """Hold everything in transit, or let it arrive again."""
        with self.lock:
            self.is_held = is_held
            for end in self.ends:
                end.note()

    # -- for a manual clock -------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """The earliest timer of all endpoints."""
        return min((station.bell.next_timer() for station in list(self.stations)), default=NEVER)

    def clock_moved(self) -> None:
        """Let every endpoint check its deadlines."""
        for station in list(self.stations):
            station.bell.clock_moved()

    def come_to_rest(self) -> None:
        """Wait until all endpoints are idle at this time."""
        if any(station.bell.blocks() for station in list(self.stations)):
            raise RuntimeError(
                "this waits for endpoints of the running event loop, so it cannot be called on it: "
                "await asyncio.to_thread(clock.advance, seconds)"
            )
        patience = monotonic() + REST
        calm = 0
        while calm < 2:
            moves = self.moves
            at_rest = all(station.is_at_rest(self.now()) for station in list(self.stations))
            calm = calm + 1 if at_rest and moves == self.moves else 0
            if monotonic() >= patience:
                raise RuntimeError(f"the endpoints did not come to rest within {REST:g} s")
            if calm == 0:
                sleep(0.0005)

    def close(self) -> None:
        """Close the network: reset every connection, stop all listeners."""
        self.cut()
        with self.lock:
            self.listeners.clear()


class MemoryListener(Listener):
    """A name at which a server listens."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.station: Station | None = None
        """The station that accepts; None before that."""

    def close_copy(self) -> None:
        pass  # Memory has no descriptors.

    def close(self) -> None:
        with self.hub.lock:
            if self.hub.listeners.get(self.name) is self:
                del self.hub.listeners[self.name]


networks: list[MemoryHub] = []
"""The networks in use; ``memory://`` addresses belong to the last one."""


def current_time() -> float:
    """The time on the network in use."""
    return networks[-1].now() if networks else monotonic()


def bind(address: Address) -> Listener:
    """Listen at a name. Raises `ListenFailed`."""
    if not networks:
        raise ListenFailed(f"cannot listen at {address}: {NO_NETWORK}")
    hub = networks[-1]
    listener = MemoryListener(hub, address.path)
    with hub.lock:
        if address.path in hub.listeners:
            raise ListenFailed(f"cannot listen at {address}: the address is in use, by another server")
        hub.listeners[address.path] = listener
    return listener

"""A network inside one process: byte streams in memory between any endpoints, threaded or asyncio.

How to think about it. A `MemoryHub` is the whole network: who listens at which name, all connections, the
clock, and the faults. An endpoint has a `Station` on it for each of its lives. A connection is two
`MemoryEnd` objects that behave as two connected sockets do: a bounded buffer each way, half-close, reset.
`memory.py` connects the stations to the endpoints.

Two locks. The hub's lock protects all that is here; it is held for moments, and nothing is called under it
that takes another lock. All else belongs to one endpoint, under its own lock or on its event loop. A station
is told that something is there by its bell, which is rung from any thread.

`linkbox.testing.MemoryNetwork` is what users see of this.
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
"""Seconds of real time in which endpoints have to come to rest."""


class Bell:
    """How the network reaches an endpoint. Called from any thread."""

    def ring(self) -> None:
        """There is something to look at. Also under the hub's lock."""
        raise NotImplementedError

    def clock_moved(self) -> None:
        """A manual clock was advanced: let the driver look at every deadline again."""
        raise NotImplementedError

    def next_timer(self) -> float:
        """When the endpoint has something to do, even if nothing arrives."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Has the driver nothing to do?"""
        raise NotImplementedError

    def blocks(self) -> bool:
        """Would waiting on this thread keep the endpoint from working?"""
        return False


class Station:
    """What the hub knows of one life of an endpoint."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.noted: deque[MemoryEnd] = deque()
        """Ends to look at."""
        self.callers: deque[MemoryEnd] = deque()
        """Connections that wait to be accepted."""

    def is_at_rest(self, now: float) -> bool:
        """Has the endpoint nothing to do at this time? From any thread but its event loop's."""
        return self.bell.is_idle() and not (self.noted or self.callers) and self.bell.next_timer() > now


class MemoryEnd:
    """One end of a connection: what ``link.handle`` is here.

    ``link`` and ``unsent`` belong to the endpoint, the rest to the hub's lock.
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
        self.hub = hub
        self.station = station
        self.other = self
        self.link: Link | None = None
        """None: not accepted yet."""
        self.incoming = bytearray()
        """On its way to this end."""
        self.has_fin = False
        """Has the other end closed its half?"""
        self.is_reset = False
        """Does writing fail, and reading once all that has arrived is read?"""
        self.is_closed = False
        self.is_noted = False
        """Is it among those that its station has to look at?"""
        self.wants_room = False
        """Is there something unsent, for which the other end had no room?"""
        self.unsent: list[Buffer] = []

    def read(self) -> bytes | None:
        """What has arrived; empty: the other end has closed its half; None: nothing for now."""
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
        """Write as much as there is room for; returns the rest."""
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
        """Half-close: the other end reads what is on its way, then the end."""
        with self.hub.lock:
            self.other.has_fin = True
            self.other.note()

    def close(self, is_abortive: bool) -> None:
        """As the kernel does it: closing with unread bytes resets the connection."""
        with self.hub.lock:
            if self.is_closed:
                return
            self.is_closed = True
            self.hub.ends.discard(self)
            if self.incoming or is_abortive:
                self.other.break_off()
            self.other.has_fin = True
            self.other.note()

    def break_off(self) -> None:
        """Reset this end. Under the hub's lock."""
        self.is_reset = True
        self.incoming.clear()
        self.note()

    def note(self) -> None:
        """Let the endpoint look at this end. Under the hub's lock."""
        self.hub.moves += 1
        if not self.is_noted and not self.is_closed:
            self.is_noted = True
            self.station.noted.append(self)
            self.station.bell.ring()


class MemoryHub:
    """Everything of one memory network."""

    def __init__(self, capacity: int, chunk: int, now: Callable[[], float] | None) -> None:
        self.capacity = capacity
        """Bytes on their way to one end, at most: then its peer can write no more."""
        self.chunk = chunk
        """Bytes read at a time, at most."""
        self.now = monotonic if now is None else now
        self.has_manual_clock = now is not None
        self.lock = threading.Lock()
        self.listeners: dict[str, MemoryListener] = {}
        self.ends: set[MemoryEnd] = set()
        """All ends of connections that are not closed."""
        self.stations: set[Station] = set()
        self.is_held = False
        """Do bytes and ends stay on their way?"""
        self.moves = 0
        """Counts what has happened."""
        self.is_refusing = False
        """Does every attempt to connect fail?"""

    def connect(self, station: Station, name: str) -> MemoryEnd:
        """A new connection to the server at that name; returns the client's end."""
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
        """How many connections there are."""
        with self.lock:
            return self._count()

    def _count(self) -> int:
        return sum(end.other.is_closed or id(end) < id(end.other) for end in self.ends)

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        with self.lock:
            count = self._count()
            for end in self.ends:
                end.break_off()
        return count

    def hold(self, is_held: bool) -> None:
        """Let nothing arrive for now, or everything again."""
        with self.lock:
            self.is_held = is_held
            for end in self.ends:
                end.note()

    # -- for a manual clock -------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When the first of all endpoints has something to do."""
        return min((station.bell.next_timer() for station in list(self.stations)), default=NEVER)

    def clock_moved(self) -> None:
        """Let every endpoint look at its deadlines again."""
        for station in list(self.stations):
            station.bell.clock_moved()

    def come_to_rest(self) -> None:
        """Wait until no endpoint has anything to do at this time."""
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
        """End: every connection is reset, and nobody listens."""
        self.cut()
        with self.lock:
            self.listeners.clear()


class MemoryListener(Listener):
    """A name that a server listens at."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.station: Station | None = None
        """Who accepts; None: not yet."""

    def close_copy(self) -> None:
        pass  # Memory has no descriptors.

    def close(self) -> None:
        with self.hub.lock:
            if self.hub.listeners.get(self.name) is self:
                del self.hub.listeners[self.name]


networks: list[MemoryHub] = []
"""The networks in use; ``memory://`` addresses belong to the last."""


def current_time() -> float:
    """The time on the network in use."""
    return networks[-1].now() if networks else monotonic()


def bind(address: Address) -> Listener:
    """Listen at a name. `ListenFailed` says why not."""
    if not networks:
        raise ListenFailed(f"cannot listen at {address}: {NO_NETWORK}")
    hub = networks[-1]
    listener = MemoryListener(hub, address.path)
    with hub.lock:
        if address.path in hub.listeners:
            raise ListenFailed(f"cannot listen at {address}: the address is in use, by another server")
        hub.listeners[address.path] = listener
    return listener

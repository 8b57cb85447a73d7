"""A network inside one process: byte streams in memory between any endpoints, threaded or asyncio.

How to think about it. A `MemoryHub` is the whole network: who listens at which name, all connections, the clock, and
the faults. An endpoint has a `MemoryPort` on it for each of its lives. A connection is two `MemoryEnd`\\ s that
behave as two connected sockets do: a bounded buffer each way, half-close, reset.

Two locks. The hub's lock protects what both ends of a connection share; it is held for moments, and nothing is
called under it that takes another lock. All else belongs to one port, under the lock of its endpoint or on its
event loop. A port is told that something is there by its bell, which is rung from any thread.

`linkbox.testing.MemoryNetwork` is what users see of this.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic, sleep

from linkbox.address import Address
from linkbox.core.link import Buffer, Link
from linkbox.core.session import NEVER, Session
from linkbox.errors import ConnectFailed, ListenFailed
from linkbox.networks.listening import CROWD_PAUSE
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents, ThreadedNetwork
from linkbox.networks.poller import MemoryPoller

READ_SIZE = 64 * 1024
"""Bytes read from one connection in one turn, at most."""


class MemoryEnd:
    """One end of a connection: what ``link.carrier`` is here. The hub's lock protects all but the link's part."""

    __slots__ = (
        "has_fin",
        "hub",
        "incoming",
        "is_closed",
        "is_noted",
        "is_reset",
        "link",
        "other",
        "port",
        "unsent",
        "wants_room",
    )

    def __init__(self, hub: MemoryHub, port: MemoryPort) -> None:
        self.hub = hub
        self.port = port
        self.other = self
        self.link: Link | None = None
        """None: not accepted yet."""
        self.incoming = bytearray()
        """On its way to this end."""
        self.has_fin = False
        """Has the other end closed its half?"""
        self.is_reset = False
        """Do reading and writing fail?"""
        self.is_closed = False
        self.is_noted = False
        """Is it among those that its port is to look at?"""
        self.wants_room = False
        """Is there something unsent, for which the other end had no room?"""
        self.unsent: list[Buffer] = []

    def read(self) -> bytes | None:
        """What has arrived; empty: the other end has closed its half; None: nothing for now."""
        hub = self.hub
        with hub.lock:
            if self.is_reset:
                raise ConnectionResetError("the connection was reset")
            if hub.is_held:
                return None
            if not self.incoming:
                return b"" if self.has_fin else None
            data = bytes(self.incoming[: hub.chunk])
            del self.incoming[: len(data)]
            if self.other.wants_room:
                self.other.wants_room = False
                self.other.note()
            if self.incoming or self.has_fin:
                self.note()
            return data

    def write(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Write as much as there is room for; returns the rest."""
        hub, other = self.hub, self.other
        with hub.lock:
            if self.is_reset or self.is_closed or other.is_closed:
                self.is_reset = True
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
        """Let the port look at this end. Under the hub's lock."""
        self.hub.moves += 1
        if not self.is_noted and not self.is_closed:
            self.is_noted = True
            self.port.noted.append(self)
            self.port.bell.ring()


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
        self.ports: set[MemoryPort] = set()
        self.is_held = False
        """Do bytes and ends stay on their way?"""
        self.moves = 0
        """Counts what has happened."""
        self.is_refusing = False
        """Does every attempt to connect fail?"""

    def connect(self, port: MemoryPort, name: str) -> MemoryEnd:
        """A new connection to the server at that name; returns the client's end."""
        with self.lock:
            listener = self.listeners.get(name)
            if listener is None or listener.port is None:
                raise ConnectionRefusedError("nobody listens there; is the server started?")
            if self.is_refusing:
                raise ConnectionRefusedError("the network refuses connections, as the test says")
            near, far = MemoryEnd(self, port), MemoryEnd(self, listener.port)
            near.other, far.other = far, near
            self.ends |= {near, far}
            listener.port.callers.append(far)
            listener.port.bell.ring()
            return near

    def count(self) -> int:
        """How many connections there are."""
        with self.lock:
            return len({id(end) if id(end) < id(end.other) else id(end.other) for end in self.ends})

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        count = self.count()
        with self.lock:
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
        return min((port.events.hub.next_timer() for port in list(self.ports)), default=NEVER)

    def clock_moved(self) -> None:
        """Let every endpoint look at its deadlines again."""
        for port in list(self.ports):
            port.bell.clock_moved()

    def come_to_rest(self) -> None:
        """Wait until no endpoint has anything to do at this time."""
        if any(port.bell.blocks() for port in list(self.ports)):
            raise RuntimeError(
                "this waits for endpoints of the running event loop, so it cannot be called on it: "
                "await asyncio.to_thread(clock.advance, seconds)"
            )
        patience = monotonic() + _REST
        calm = 0
        while calm < 2:
            moves = self.moves
            at_rest = all(port.is_at_rest() for port in list(self.ports))
            calm = calm + 1 if at_rest and moves == self.moves else 0
            if not at_rest:
                if monotonic() >= patience:
                    raise RuntimeError(f"the endpoints did not come to rest within {_REST:g} s")
                sleep(0.0005)

    def close(self) -> None:
        """End: every connection is reset, and nobody listens."""
        self.cut()
        with self.lock:
            self.listeners.clear()


_REST = 10.0
"""Seconds of real time in which endpoints have to come to rest."""
networks: list[MemoryHub] = []
"""The networks in use; ``memory://`` addresses belong to the last."""


def current_time() -> float:
    """The time on the network in use."""
    return networks[-1].now() if networks else monotonic()


class MemoryListener(Listener):
    """A name that a server listens at."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.port: MemoryPort | None = None
        """Who accepts; None: not yet."""

    def close(self) -> None:
        """Listen no more."""
        with self.hub.lock:
            if self.hub.listeners.get(self.name) is self:
                del self.hub.listeners[self.name]


def bind(address: Address) -> Listener:
    """Listen at a name. `ListenFailed` says why not."""
    if not networks:
        raise ListenFailed(f"cannot listen at {address}: {_NO_NETWORK}")
    hub = networks[-1]
    listener = MemoryListener(hub, address.path)
    with hub.lock:
        if address.path in hub.listeners:
            raise ListenFailed(f"cannot listen at {address}: the address is in use, by another server")
        hub.listeners[address.path] = listener
    return listener


_NO_NETWORK = "there is no memory network: use it inside `with linkbox.testing.MemoryNetwork():`"


class Bell:
    """How a port lets its endpoint know of something. Rung from any thread, also under the hub's lock."""

    def ring(self) -> None:
        """Let `MemoryPort.report` be called soon."""
        raise NotImplementedError

    def clock_moved(self) -> None:
        """A manual clock was advanced: let the driver look at every deadline again."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Has the driver nothing to do?"""
        raise NotImplementedError

    def blocks(self) -> bool:
        """Would waiting on this thread keep the endpoint from working?"""
        return False


class ThreadBell(Bell):
    """For a threaded endpoint: its engine polls."""

    def __init__(self, events: NetworkEvents, lock: threading.RLock, poller: MemoryPoller) -> None:
        self._events = events
        self._lock = lock
        self._poller = poller

    def ring(self) -> None:
        self._poller.ring()

    def clock_moved(self) -> None:
        with self._lock:
            self._events.clock_moved()

    def is_idle(self) -> bool:
        with self._lock:
            return not self._events.is_busy()


class LoopBell(Bell):
    """For an asyncio endpoint: its event loop calls."""

    port: MemoryPort

    def __init__(self, events: NetworkEvents) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._is_rung = False

    def ring(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            self._call(self._answer)

    def _answer(self) -> None:
        self._is_rung = False
        now = self.port.hub.now()
        self.port.report(now)
        self._events.turn_done(now)

    def clock_moved(self) -> None:
        self._call(self._events.clock_moved)

    def is_idle(self) -> bool:
        answer: Future[bool] = Future()
        if not self._call(lambda: answer.set_result(not self._events.is_busy())):
            return True
        return answer.result(_REST)

    def blocks(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _call(self, function: Callable[[], None]) -> bool:
        """Let the loop call it; False: the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


class MemoryPort:
    """What one life of an endpoint has on the network. Called under the endpoint's lock, or on its loop."""

    def __init__(self, events: NetworkEvents, address: Address, hub: MemoryHub | None, bell: Bell) -> None:
        self.hub = MemoryHub(0, 1, None) if hub is None else hub
        self.events = events
        self.bell = bell
        self.noted: deque[MemoryEnd] = deque()
        """Ends to look at. Under the hub's lock."""
        self.callers: deque[MemoryEnd] = deque()
        """Connections that wait to be accepted. Under the hub's lock."""
        self._address = address
        self._has_network = hub is not None
        self._listener: MemoryListener | None = None
        self._ends: set[MemoryEnd] = set()
        self._pause_until = NEVER
        self.timer_at = NEVER
        with self.hub.lock:
            self.hub.ports.add(self)

    # -- what arrives -----------------------------------------------------------------------------------

    def report(self, now: float) -> None:
        """Accept, and report what has arrived."""
        if self.callers and self._listener is not None:
            self._accept(now)
        for _ in range(len(self.noted)):  # what is noted meanwhile rings again
            with self.hub.lock:
                end = self.noted.popleft()
                end.is_noted = False
            if end.link is not None and not end.link.closed:
                self._look_at(end, end.link, now)

    def _look_at(self, end: MemoryEnd, link: Link, now: float) -> None:
        if end.unsent and not end.is_reset:
            link.write_moved()
            buffers, end.unsent = end.unsent, []
            self._write(end, link, buffers)
            self.events.flush_later(link)
        if (link.paused or link.eof) and not end.is_reset:
            return
        try:
            data = end.read()
        except OSError as error:
            self.events.lost(link, error, now)
            return
        if data:
            self.events.received(link, data, now)
        elif data is not None:
            self.events.ended(link, now)

    def is_at_rest(self) -> bool:
        """Has the endpoint nothing to do at this time? From any thread but its event loop's."""
        if not self.bell.is_idle():
            return False
        return not (self.noted or self.callers) and self.events.hub.next_timer() > self.hub.now()

    # -- writing ----------------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        """Write what the link has to write; then half-close, close, or read again as it says."""
        end: MemoryEnd | None = link.carrier
        if end is None:
            return
        while not (end.unsent or link.shut or link.closed):
            buffers = link.data_to_send(self.hub.now())
            if not buffers:
                break
            self._write(end, link, buffers)
        if link.half_close and not (link.shut or link.closed or end.unsent):
            end.finish()
            link.finish_writing()
        if link.closed:
            self._close(end, link)
        elif not (link.paused or link.eof):
            with self.hub.lock:
                if (end.incoming or end.has_fin) and not self.hub.is_held:
                    end.note()  # it may have been paused

    def _write(self, end: MemoryEnd, link: Link, buffers: Sequence[Buffer]) -> None:
        try:
            end.unsent = end.write(buffers)
        except OSError as error:
            if link.eof or link.paused:
                self.events.lost(link, error, self.hub.now())
            # What the peer sent before the connection broke is still to be read; then reading fails too.
            link.shut = True
        if end.unsent:
            link.write_stalled(self.hub.now())
            self.events.timers_changed()

    def _close(self, end: MemoryEnd, link: Link) -> None:
        link.carrier = None
        self._ends.discard(end)
        end.close(link.is_abortive)

    # -- connections --------------------------------------------------------------------------------------

    def dial(self, session: Session) -> None:
        """Connect."""
        now = self.hub.now()
        try:
            if not self._has_network:
                raise ConnectionRefusedError(_NO_NETWORK)
            end = self.hub.connect(self, self._address.path)
        except OSError as error:
            failure = ConnectFailed(f"cannot connect to {self._address}: {error}")
            failure.__cause__ = error
            self.events.connect_failed(session, failure, now)
            return
        self._open(end, self.events.connected(session, now))

    def _open(self, end: MemoryEnd, link: Link | None) -> None:
        if link is None:
            end.close(is_abortive=False)
            return
        end.link = link
        link.carrier = end
        self._ends.add(end)
        with self.hub.lock:
            end.note()  # something may have arrived already

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        assert isinstance(listener, MemoryListener)
        self._listener = listener
        with self.hub.lock:
            listener.port = self

    def _accept(self, now: float) -> None:
        while True:
            if self.events.is_crowded():
                self._pause_until = now + CROWD_PAUSE
                self.events.schedule(self, self._pause_until)
                return
            with self.hub.lock:
                if not self.callers:
                    return
                end = self.callers.popleft()
            self._open(end, self.events.accept("memory:", None, now))

    def next_timer(self) -> float:
        """When to accept again."""
        return self._pause_until

    def handle_timer(self, now: float) -> None:
        """Accept again."""
        if now >= self._pause_until:
            self._pause_until = NEVER
            self.bell.ring()

    def stop_listening(self) -> None:
        """Accept the connections that wait, then no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            self._accept(self.hub.now())

    def close(self) -> None:
        """Close everything."""
        self.stop_listening()
        for end in list(self._ends):
            assert end.link is not None
            self._close(end, end.link)
        with self.hub.lock:
            self.hub.ports.discard(self)
            callers = list(self.callers)
        for end in callers:
            end.close(is_abortive=True)


class ThreadedMemory(ThreadedNetwork):
    """The memory network for a threaded endpoint."""

    def __init__(self, events: NetworkEvents, address: Address, lock: threading.RLock) -> None:
        hub = networks[-1] if networks else None
        poller = MemoryPoller(hub is not None and hub.has_manual_clock)
        port = MemoryPort(events, address, hub, ThreadBell(events, lock, poller))
        super().__init__(events, poller, port.hub.now, port.hub.has_manual_clock)
        self._port = port

    def read(self, ready: list[tuple[int, int]]) -> None:
        pass  # There is no system call to make without the lock.

    def report(self, now: float) -> None:
        self._port.report(now)

    def flush(self, link: Link) -> None:
        self._port.flush(link)

    def dial(self, session: Session) -> None:
        self._port.dial(session)

    def listen(self, listener: Listener) -> None:
        self._port.listen(listener)

    def stop_listening(self) -> None:
        self._port.stop_listening()

    def close(self) -> None:
        self._port.close()

    def close_copies(self) -> None:
        pass  # Memory has no descriptors.


class AioMemory(AioNetwork):
    """The memory network for an asyncio endpoint."""

    def __init__(self, events: NetworkEvents, address: Address) -> None:
        bell = LoopBell(events)
        self._port = bell.port = MemoryPort(events, address, networks[-1] if networks else None, bell)
        super().__init__(events, self._port.hub.now, self._port.hub.has_manual_clock)

    def flush(self, link: Link) -> None:
        self._port.flush(link)

    def dial(self, session: Session) -> None:
        self._port.dial(session)

    def listen(self, listener: Listener) -> None:
        self._port.listen(listener)

    def stop_listening(self) -> None:
        self._port.stop_listening()

    async def close(self) -> None:
        self._port.close()

    def close_copies(self) -> None:
        pass  # Memory has no descriptors.

"""The memory network as endpoints use it, threaded or asyncio. The network itself is in `memory_hub.py`.

A `MemoryPort` does what the modules for sockets do: accept, connect, read, write, half-close, close. Threads
and asyncio differ only in how the endpoint is notified of an arrival.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from linkbox.address import Address
from linkbox.core.connection import Buffer, Carrier
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.errors import ConnectFailed
from linkbox.networks.listening import CROWD_PAUSE
from linkbox.networks.memory_hub import (
    NO_NETWORK,
    REST,
    Bell,
    MemoryEnd,
    MemoryHub,
    MemoryListener,
    Station,
    networks,
)
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents, ThreadedNetwork
from linkbox.networks.poller import MemoryPoller


class ThreadBell(Bell):
    """Notifies a threaded endpoint, by way of its poller."""

    def __init__(self, events: NetworkEvents, lock: threading.RLock, poller: MemoryPoller) -> None:
        self._events = events
        self._lock = lock
        self._poller = poller

    def ring(self) -> None:
        self._poller.ring()

    def clock_moved(self) -> None:
        with self._lock:
            self._events.clock_moved()

    def next_timer(self) -> float:
        return self._events.hub.next_timer()

    def is_idle(self) -> bool:
        with self._lock:
            return not self._events.is_busy()


class LoopBell(Bell):
    """Notifies an asyncio endpoint, by way of its event loop."""

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

    def next_timer(self) -> float:
        return self._events.hub.next_timer()

    def is_idle(self) -> bool:
        answer: Future[bool] = Future()
        if not self._call(lambda: answer.set_result(not self._events.is_busy())):
            return True
        try:
            return answer.result(REST)
        except TimeoutError:
            return False  # The loop is blocked.

    def blocks(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _call(self, function: Callable[[], None]) -> bool:
        """Let the loop call ``function``. False if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


class MemoryPort:
    """The connections of a started endpoint. Called under the endpoint's lock, or on its event loop."""

    def __init__(self, events: NetworkEvents, address: Address, hub: MemoryHub | None, bell: Bell) -> None:
        self.hub: MemoryHub = MemoryHub(0, 1, None) if hub is None else hub
        self.events = events
        self.station: Station = Station(bell)
        self._address = address
        self._has_network = hub is not None
        self._listener: MemoryListener | None = None
        self._ends: set[MemoryEnd] = set()
        self._pause_until = NEVER
        self.timer_at = NEVER
        with self.hub.lock:
            self.hub.stations.add(self.station)

    # -- what arrives -----------------------------------------------------------------------------------

    def report(self, now: float) -> None:
        """Accept, and report what has arrived."""
        if self.station.callers and self._listener is not None:
            self._accept(now)
        for _ in range(len(self.station.noted)):  # later notes cause another call
            with self.hub.lock:
                end = self.station.noted.popleft()
                end.is_noted = False
            link = end.link
            if link is not None and not link.closed:
                try:
                    self._look_at(end, link, now)
                except BaseException as error:
                    self.events.reading_failed(link, error)

    def _look_at(self, end: MemoryEnd, link: Link, now: float) -> None:
        if end.unsent and not end.is_reset:
            link.write_moved()
            buffers, end.unsent = end.unsent, []
            self._write(end, link, buffers)
            self.events.flush_later(link)
        if (link.paused or link.is_behind or link.eof) and not end.is_reset:
            return
        try:
            data = end.read()
        except OSError as error:
            self.events.hub.lost(link, error, now)
            return
        if data:
            self.events.hub.received(link, data, now)
        elif data is not None:
            self.events.hub.ended(link, now)

    # -- writing ----------------------------------------------------------------------------------------

    def flush(self, end: MemoryEnd, link: Link) -> None:
        """See `Carrier.flush`."""
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
        elif not (link.paused or link.is_behind or link.eof):
            with self.hub.lock:
                if (end.incoming or end.has_fin) and not self.hub.is_held:
                    end.note()  # reading may have been paused

    def _write(self, end: MemoryEnd, link: Link, buffers: Sequence[Buffer]) -> None:
        try:
            end.unsent = end.write(buffers)
        except OSError as error:
            if link.eof or link.paused:
                self.events.hub.lost(link, error, self.hub.now())
            # Bytes that the peer sent before the connection broke must still be read; then reading fails too.
            link.shut = True
        if end.unsent:
            link.write_stalled(self.hub.now())

    def _close(self, end: MemoryEnd, link: Link) -> None:
        link.carrier = end.link = None
        self._ends.discard(end)
        end.close(link.is_abortive)

    # -- connections --------------------------------------------------------------------------------------

    def dial(self, session: Session) -> None:
        """Connect."""
        now = self.hub.now()
        try:
            if not self._has_network:
                raise ConnectionRefusedError(NO_NETWORK)
            end = self.hub.connect(self.station, self._address.path)
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
        link.carrier = MemoryCarrier(self, end, link)
        self._ends.add(end)
        with self.hub.lock:
            end.note()  # bytes may have arrived already

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        assert isinstance(listener, MemoryListener)
        self._listener = listener
        with self.hub.lock:
            listener.station = self.station

    def _accept(self, now: float) -> None:
        while True:
            if self.events.is_crowded(now):
                self._pause_until = now + CROWD_PAUSE
                self.events.schedule(self, self._pause_until)
                return
            with self.hub.lock:
                if not self.station.callers:
                    return
                end = self.station.callers.popleft()
            try:
                self._open(end, self.events.accept("memory:", None, now))
            except BaseException as error:
                end.close(is_abortive=True)
                self.events.accept_failed(error)

    def next_timer(self) -> float:
        """When to accept again."""
        return self._pause_until

    def handle_timer(self, now: float) -> None:
        """Accept again."""
        if now >= self._pause_until:
            self._pause_until = NEVER
            self.station.bell.ring()

    def stop_listening(self) -> None:
        """Accept the queued connections, then no more."""
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
            self.hub.stations.discard(self.station)
            callers = list(self.station.callers)
        for end in callers:
            end.close(is_abortive=True)


class MemoryCarrier(Carrier):
    """One end of a connection, as the endpoint uses it: the ``link.carrier`` of this network."""

    __slots__ = ("_end", "_link", "_port")

    def __init__(self, port: MemoryPort, end: MemoryEnd, link: Link) -> None:
        self._port = port
        self._end = end
        self._link = link

    def flush(self) -> None:
        self._port.flush(self._end, self._link)


class ThreadedMemory(ThreadedNetwork):
    """The memory network for a threaded endpoint."""

    def __init__(self, events: NetworkEvents, address: Address, lock: threading.RLock) -> None:
        hub = networks[-1] if networks else None
        poller = MemoryPoller(hub is not None and hub.has_manual_clock)
        port = MemoryPort(events, address, hub, ThreadBell(events, lock, poller))
        super().__init__(events, poller, port.hub.now, port.hub.has_manual_clock)
        self._port = port

    def read(self, timeout: float | None) -> None:
        self.poller.poll(timeout)  # Reading itself needs no system call.

    def report(self, now: float) -> None:
        self._port.report(now)

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

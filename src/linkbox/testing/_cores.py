"""Endpoints' cores in one thread, on links that are memory, by a clock that is turned by hand.

Nothing in here waits, and nothing depends on the machine: what happens, happens because a test says so, and
the same test makes the same thing happen each time. For the logic of a whole conversation: drops anywhere,
slow disks, deaths, hours that pass in a moment. Not for users: they have `MemoryNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkbox.core.arrival import Arrival
from linkbox.core.connection import Buffer, Carrier
from linkbox.core.decoding import decode_all
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.link import Link
from linkbox.core.session import Session
from linkbox.errors import ConnectFailed
from linkbox.events import EventKind
from linkbox.testing.clock import ManualClock


class MemoryLink(Carrier):
    """One end of one connection, and what is on its way to it."""

    def __init__(self, hub: EndpointCore, link: Link) -> None:
        self.hub = hub
        self.link = link
        self.other: MemoryLink = self
        self.incoming = bytearray()
        self.fin = False
        """The other end will write nothing more."""
        self.reset = False
        """The next read or write fails."""
        self.gone = False
        self.shakes = hub.context.settings.secure
        """Is the TLS handshake incomplete? Then nothing is sent."""
        self.unsent: list[bytes] = []
        self.is_full = False
        """The kernel takes nothing."""
        link.carrier = self

    def write_all(self, now: float) -> None:
        """Write all there is; then what ``half_close`` and ``closed`` say."""
        link = self.link
        while not self.shakes and not self.unsent and not link.closed and not link.shut:
            buffers = self.data_to_send(now)
            if not buffers:
                break
            self.write([bytes(buffer) for buffer in buffers], now)
        if link.closed:
            self.close()
        elif link.half_close and not link.shut and not self.unsent:
            self.half_close(now)
            link.finish_writing()
            if link.closed:
                self.close()

    def data_to_send(self, now: float) -> list[Buffer]:
        """What the link has to write."""
        return self.link.data_to_send(now)

    def half_close(self, now: float) -> None:
        """Let the other end see that nothing more is written."""
        self.other.fin = True

    def write(self, buffers: list[bytes], now: float) -> None:
        if self.is_full:
            self.unsent = buffers
            self.link.write_stalled(now)
        elif self.other.gone or self.reset:
            self.reset = True
            self.incoming.clear()
            if self.link.eof or self.link.paused:
                self.hub.lost(self.link, BrokenPipeError("broken pipe"), now)
            self.link.shut = True
        else:
            self.other.incoming += b"".join(buffers)

    def unblock(self, now: float) -> None:
        """The kernel takes bytes again."""
        self.is_full = False
        buffers, self.unsent = self.unsent, []
        if buffers:
            self.link.write_moved()
            self.write(buffers, now)
        self.hub.effects.to_write.append(self.link)

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self.link.carrier = None
            # As the kernel does it: what the other end has not read is destroyed.
            if self.incoming or self.link.is_abortive:
                self.other.reset = True
                self.other.incoming.clear()
            self.other.fin = True


class CoreNetwork:
    """One server, any number of clients, and what is on its way between them.

    It does what a front end does (read, write, decode, dial, call timers) and nothing else. It also watches:
    a timer that is due again the moment it was called is an error, and so is a network that never rests.
    """

    server: ServerCore

    def __init__(
        self, decode: Callable[[bytes], Any] | None = None, clock: ManualClock | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.decode = decode or bytes
        self.chunk: int | None = None
        """Bytes that move at a time; None: all."""
        self.is_reachable = True
        self.calls_back = True
        """False: a callback blocks."""
        self.decodes = True
        """False: arrivals wait in ``undecoded`` until `decode_all`."""
        self.undecoded: list[tuple[EndpointCore, Arrival]] = []
        self.ends: list[MemoryLink] = []
        self.hubs: list[EndpointCore] = []
        self.notices: dict[EndpointCore, list[Any]] = {}
        """The events for the callbacks of each hub."""
        self.notes: list[str] = []
        """Lines for the log."""
        self.dialled: list[float] = []
        self.ip: str | None = None

    @property
    def now(self) -> float:
        """What time it is."""
        return self.clock.now

    @now.setter
    def now(self, now: float) -> None:
        self.clock.now = now

    def add(self, hub: EndpointCore) -> None:
        """A process begins."""
        self.hubs.append(hub)
        self.notices[hub] = []

    def forget(self, hub: EndpointCore) -> None:
        """That process is dead."""
        self.hubs.remove(hub)
        self.ends = [end for end in self.ends if end.hub is not hub]

    # -- what a front end does -----------------------------------------------------------------------

    def settle(self) -> None:
        """Do what the hubs have left to be done."""
        for hub in self.hubs:
            effects = hub.effects
            for _ in range(10_000):
                if effects.to_write:
                    end = effects.to_write.pop().carrier
                    if isinstance(end, MemoryLink):
                        end.write_all(self.clock.now)
                elif isinstance(hub, ClientCore) and hub.dialing.dials:
                    self._dial(hub, hub.dialing.dials.pop(0))
                elif effects.to_read:
                    self.read_again(hub)
                elif effects.events.events and self.calls_back:
                    self.call_back(hub)
                else:
                    break
            else:
                raise AssertionError("a hub that never comes to rest")
            effects.to_wake.clear()
            if effects.log_lines:
                self.notes += [note.text for note in effects.log_lines]
                effects.log_lines.clear()

    def read_again(self, hub: EndpointCore) -> None:
        """Let links understand what they held back."""
        hub.effects.frames = 0
        hub.received(hub.effects.to_read.popleft(), b"", self.now)
        self._queue(hub)
        if self.decodes:
            self._deliver()

    def call_back(self, hub: EndpointCore) -> None:
        """Call the callbacks for the events of a hub."""
        queue = hub.effects.events
        events = [queue.take() for _ in range(len(queue.events))]
        self.notices[hub] += events
        hub.events_done(sum(event[4] for event in events))

    def _dial(self, hub: ClientCore, session: Session) -> None:
        self.dialled.append(self.now)
        near = far = None
        if self.is_reachable:
            far = self.server.accept("tcp://client", self.ip, self.now)
            near = hub.connected(session, hub.dialing.address, self.now)
            assert near is not None
            self.join(hub, near, far)
        else:
            hub.connect_failed(session, ConnectFailed("nobody listens"), self.now)

    def join(self, hub: EndpointCore, near: Link, far: Link | None) -> MemoryLink:
        """Put a connection between two links; ``far`` None: the server has closed it at once."""
        here = MemoryLink(hub, near)
        self.ends.append(here)
        if far is None:
            here.other = MemoryLink.__new__(MemoryLink)
            here.other.gone, here.fin = True, True
            here.other.incoming = bytearray()
        else:
            here.other = MemoryLink(self.server, far)
            here.other.other = here
            self.ends.append(here.other)
        return here

    def move(self, end: MemoryLink, size: int | None = None) -> bool:
        """Let (some of) what is on its way to this end arrive. Did anything happen?"""
        link, hub = end.link, end.hub
        if end.gone or link.closed:
            return False
        if end.reset:
            hub.lost(link, ConnectionResetError("reset"), self.now)
        elif link.eof or link.paused:
            return False
        elif end.incoming:
            data = bytes(end.incoming[:size])
            del end.incoming[: len(data)]
            hub.received(link, data, self.now)
        elif end.fin:
            hub.ended(link, self.now)
        else:
            return False
        self.take_arrivals(hub)
        self.settle()
        return True

    def take_arrivals(self, hub: EndpointCore) -> None:
        """Decode and store what a hub has received, unless that has to wait for `decode_all`."""
        self._queue(hub)
        if self.decodes:
            self.decode_all()

    def _queue(self, hub: EndpointCore) -> None:
        self.undecoded += [(hub, arrival) for arrival in hub.arrivals]
        hub.arrivals.clear()

    def decode_all(self) -> None:
        """Decode and store what has arrived."""
        self._deliver()
        self.settle()

    def _deliver(self) -> None:
        while self.undecoded:
            hub, arrival = self.undecoded.pop(0)
            hub.deliver(arrival, decode_all(self.decode, arrival), self.now)

    def shake(self, *ends: MemoryLink, identity: str | None = None, certificate: bytes = b"") -> None:
        """TLS shakes hands: at these ends, or at all that have not."""
        for end in ends or [each for each in self.ends if each.shakes]:
            end.shakes = False
            end.link.secured(identity if end.hub is self.server else None, certificate, self.now)
        self.run()

    def decide(self, is_welcome: bool) -> None:
        """The application decides on the next pending connection."""
        self.server.decide(self.server.admission.pending_accepts.take(), is_welcome, self.now)
        self.run()

    # -- moving --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything arrive that is on its way. The clock stands still."""
        self.settle()
        for _ in range(1_000_000):
            self.ends = [end for end in self.ends if not end.gone]
            if not any(self.move(end, self.chunk) for end in self.ends):
                return
        raise AssertionError("a wire that never comes to rest")

    def advance(self, seconds: float) -> None:
        """Turn the clock, calling each timer when it is due, and run."""
        self.run()
        until = self.now + seconds
        while (due := min(hub.next_timer() for hub in self.hubs)) <= until:
            self.now = max(self.now, due)
            for hub in list(self.hubs):
                hub.handle_timers(self.now)
                assert hub.next_timer() > self.now, "a timer that is due again at once"
            self.run()
        self.now = until

    def acks(self) -> None:
        """Long enough for every acknowledgement that is owed."""
        self.advance(0.6)

    # -- faults --------------------------------------------------------------------------------------

    def drop(self, end: MemoryLink, keep: int = 0) -> None:
        """The connection breaks: ``keep`` bytes still arrive at this end, then both see an error."""
        other = end.other
        if keep and end.incoming:
            self.move(end, keep)
        for each in (end, other):
            if not each.gone and not each.link.closed:
                each.incoming.clear()
                each.hub.lost(each.link, ConnectionResetError("cut"), self.now)
        end.gone = other.gone = True
        end.link.carrier = other.link.carrier = None

    def drop_all(self) -> None:
        """Every connection breaks, and what is on its way is lost."""
        for end in list(self.ends):
            if not end.gone:
                self.drop(end)
        self.ends.clear()

    def end_of(self, hub: EndpointCore) -> MemoryLink:
        """The newest connection of that hub that is not closed."""
        return next(end for end in reversed(self.ends) if end.hub is hub and not end.gone)

    def kinds(self, hub: EndpointCore) -> list[EventKind]:
        """The kinds of the events for the callbacks of a hub, one entry for each event."""
        return [notice[0] for notice in self.notices[hub] for _ in range(notice[4])]

    def events(self, hub: EndpointCore, kind: EventKind) -> list[Any]:
        return [notice for notice in self.notices[hub] if notice[0] is kind]

"""The lower seam: what a driver asks of a network, and what a network reports to a driver.

How to think about it. A *driver* (`threaded/transport.py`, `aio/driver.py`) calls the core and then does
what the core has left to do: write, dial, wake waiters, meet the next timer. A *network* carries the bytes
of one life of an endpoint, from ``start()`` to ``stop()``: it accepts, connects, reads, writes, half-closes
and closes. The network makes links through the core and keeps its own object of a connection in
``link.handle``.

Every method is called under the endpoint's lock, or on its event loop, except `ThreadedNetwork.read`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from linkbox.core.arrival import Arrival
from linkbox.core.connection import Connection as Link
from linkbox.core.connection import Listening
from linkbox.core.endpoint import ClientCore, EndpointCore, ServerCore
from linkbox.core.session import Session
from linkbox.core.timers import Timed
from linkbox.errors import ConnectFailed
from linkbox.limits import Limits
from linkbox.networks.poller import Poller


class NetworkEvents:
    """What a network reports. `EndpointDriver` inherits from it; the calls of a network into the core are all here."""

    def __init__(self, hub: EndpointCore) -> None:
        self.hub = hub
        self.effects = hub.effects
        self.arrivals: deque[Arrival] = deque()
        """Received, and not delivered to the mailbox yet."""
        self.dials: list[Session] = hub.dialing.dials if isinstance(hub, ClientCore) else []
        """Sessions that need a connection now: each is for `Network.dial`, once."""

    # For networks: what a driver implements.

    def work(self, ready: list[tuple[int, int]]) -> None:
        """Threads only: handle what a poll has found, without the lock."""
        raise NotImplementedError

    def turn_done(self, now: float) -> None:
        """The network has reported all it knows, outside of the driver's own turn: settle."""
        raise NotImplementedError

    def timers_changed(self) -> None:
        """A timer may be due earlier than before."""
        raise NotImplementedError

    def clock_moved(self) -> None:
        """A manual clock was advanced: look at every deadline again. Under the lock, or on the loop."""
        raise NotImplementedError

    def is_busy(self) -> bool:
        """Is there something left to do? For a manual clock, which waits for it."""
        return bool(self.arrivals or self.hub.effects.to_write or self.hub.effects.to_read)

    # What arrives.

    def received(self, link: Link, data: bytes, now: float) -> None:
        """Bytes have arrived."""
        self.hub.received(link, data, now, self.arrivals)

    def ended(self, link: Link, now: float) -> None:
        """The peer has closed its half."""
        self.hub.ended(link, now, self.arrivals)

    def lost(self, link: Link, error: OSError, now: float) -> None:
        """The connection is broken."""
        self.hub.lost(link, error, now)

    def flush_later(self, link: Link) -> None:
        """The link may have something to write: let `Network.flush` be called for it."""
        self.hub.effects.to_write.append(link)

    def schedule(self, target: Timed, when: float) -> None:
        """Call ``target.handle_timer(now)`` at that time, or earlier."""
        self.hub.effects.timers.schedule(target, when)

    @property
    def limits(self) -> Limits:
        return self.hub.context.limits

    # Connections of a server.

    def is_crowded(self) -> bool:
        """Must no more connections be accepted for now?"""
        hub = self.hub
        assert isinstance(hub, ServerCore)
        return hub.admission.is_crowded() and not hub.is_stopping

    def accept(self, url: str, ip: str | None, now: float) -> Link | None:
        """A peer has connected from there. None: close the connection at once."""
        assert isinstance(self.hub, ServerCore)
        return self.hub.accept(url, ip, now)

    # Connections of a client.

    def patience(self, session: Session, others: int, now: float) -> float:
        """Seconds that one address may take to answer, when so many others are to be tried after it."""
        assert isinstance(self.hub, ClientCore)
        return self.hub.dialing.patience(session, others, now)

    def connected(self, session: Session, now: float) -> Link | None:
        """The connection is there. None: it is not needed any more, close it."""
        hub = self.hub
        assert isinstance(hub, ClientCore)
        return hub.connected(session, hub.dialing.address, now)

    def connect_failed(self, session: Session, error: ConnectFailed, now: float) -> None:
        """There is no connection."""
        assert isinstance(self.hub, ClientCore)
        self.hub.connect_failed(session, error, now)


class Listener(Listening):
    """What a server listens with, made by `choose.bind` before the life of the endpoint begins."""

    def close_copy(self) -> None:
        """In a forked child: give back the descriptor. The parent listens on."""
        raise NotImplementedError


class Network:
    """Carries the bytes of one life of an endpoint."""

    def __init__(self, events: NetworkEvents, now: Callable[[], float], has_manual_clock: bool) -> None:
        self.events = events
        self.now = now
        """The clock of the endpoint: seconds, as of ``time.monotonic()``."""
        self.has_manual_clock = has_manual_clock
        """Does the clock stand still until it is advanced? Then real time must not end any wait."""

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        raise NotImplementedError

    def stop_listening(self) -> None:
        """Accept the connections that are in the queue, then no more."""
        raise NotImplementedError

    def dial(self, session: Session) -> None:
        """Begin to connect. Ends in `NetworkEvents.connected` or `connect_failed`, perhaps at once."""
        raise NotImplementedError

    def flush(self, link: Link) -> None:
        """Write what the link has to write; then half-close, close, pause or resume reading as it says."""
        raise NotImplementedError

    def close_copies(self) -> None:
        """In a forked child: give back the descriptors. The connections are the parent's."""
        raise NotImplementedError


class ThreadedNetwork(Network):
    """For threads: one of them, the leader, polls, reads without the lock, and reports under the lock."""

    def __init__(
        self, events: NetworkEvents, poller: Poller, now: Callable[[], float], has_manual_clock: bool
    ) -> None:
        super().__init__(events, now, has_manual_clock)
        self.poller = poller
        self.writers = 0
        """Threads that write just now without the lock, and will take it again."""

    def read(self, ready: list[tuple[int, int]]) -> None:
        """Receive from what `Poller.poll` has found ready. Without the lock, by one thread at a time."""
        raise NotImplementedError

    def report(self, now: float) -> None:
        """Report what was read, and do what else was ready. The caller settles."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything but the poller, which threads may still be using."""
        raise NotImplementedError


class AioNetwork(Network):
    """For asyncio: reports whenever the event loop says so, and calls `NetworkEvents.turn_done`."""

    async def close(self) -> None:
        """Close everything."""
        raise NotImplementedError

"""The interface between drivers and networks: the calls of a driver, and the reports of a network.

How to think about it. A *driver* (`threaded/transport.py`, `aio/driver.py`) calls the core and then does the
work that the core has left: write, connect, wake waiters, set the next timer. A *network* carries the bytes
of an endpoint from ``start()`` to ``stop()``: it accepts, connects, reads, writes, half-closes and closes.
The network makes links through the core and keeps its own object for a connection in ``link.carrier``.

Every method is called under the endpoint's lock, or on its event loop, except `ThreadedNetwork.read`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from linkbox.address import Address
from linkbox.core.connection import Connection as Link
from linkbox.core.connection import Listening
from linkbox.core.effects import Effects
from linkbox.core.endpoint import ClientCore, EndpointCore, ServerCore
from linkbox.core.session import Session
from linkbox.core.timers import Timed
from linkbox.errors import ConnectFailed, LinkError
from linkbox.limits import Limits
from linkbox.native import mypyc_attr
from linkbox.networks.poller import Poller
from linkbox.networks.sockets import connect_error, has_ended


class NetworkEvents:
    """The reports of a network; bytes, FIN and loss go to ``hub`` itself. `EndpointDriver` is a subclass.

    ``hub`` is the core of the endpoint. The ``hub`` of a `MemoryPort` is something else: a `MemoryHub`, the
    network in memory that many endpoints share.
    """

    def __init__(self, hub: EndpointCore) -> None:
        self.hub = hub
        self.effects: Effects = hub.effects
        self.dials: list[Session] = hub.dialing.dials if isinstance(hub, ClientCore) else []
        """Sessions that need a connection now: call `Network.dial` once for each."""

    # Implemented by drivers, called by networks.

    def turn_done(self, now: float) -> None:
        """The network has reported everything: do what follows from it.

        With threads, only the leader calls this: two threads that decode at once could store messages in the
        wrong order. Other threads call `turn_soon`.
        """
        raise NotImplementedError

    def turn_soon(self) -> None:
        """Take a turn soon, because work is left."""
        raise NotImplementedError

    def clock_moved(self) -> None:
        """A manual clock was advanced: check every deadline. Under the lock, or on the event loop."""
        raise NotImplementedError

    def link_failed(self, link: Link, error: BaseException) -> None:
        """An unexpected error has hit this connection: close it. Raises ``error`` again if it must pass."""
        raise NotImplementedError

    def reading_failed(self, link: Link, error: BaseException) -> None:
        """The same, where bytes of the peer were processed: their messages may be lost."""
        raise NotImplementedError

    def dial_failed(self, session: Session, error: BaseException) -> None:
        """An unexpected error has hit an attempt to connect. Raises ``error`` again if it must pass."""
        raise NotImplementedError

    def accept_failed(self, error: BaseException) -> None:
        """An unexpected error has hit the accepting. Raises ``error`` again if it must pass."""
        raise NotImplementedError

    def turn_failed(self, error: BaseException) -> None:
        """An unexpected error that belongs to no connection. Raises ``error`` again if it must pass."""
        raise NotImplementedError

    def is_busy(self) -> bool:
        """Is there work left? A manual clock waits until there is none."""
        return bool(self.hub.arrivals or self.hub.effects.to_write or self.hub.effects.to_read)

    def flush_later(self, link: Link) -> None:
        """The link may have something to write: flush its carrier later."""
        self.hub.effects.to_write.append(link)

    def schedule(self, target: Timed, when: float) -> None:
        """Call ``target.handle_timer(now)`` at that time, or earlier."""
        self.hub.effects.timers.schedule(target, when)

    @property
    def limits(self) -> Limits:
        return self.hub.context.limits

    # Connections of a server.

    def is_crowded(self, now: float) -> bool:
        """Must no more connections be accepted for now?"""
        hub = self.hub
        assert isinstance(hub, ServerCore)
        return hub.admission.is_crowded(now) and not hub.is_stopping

    def accept(self, url: str, origin: str | None, now: float) -> Link | None:
        """Make the link for a connection of a client. None: close the connection at once.

        ``origin`` is what it counts for in the limits per address: see ``address.origin_of``.
        """
        assert isinstance(self.hub, ServerCore)
        return self.hub.accept(url, origin, now)

    def reject(self, url: str, reason: str, now: float) -> None:
        """Log and count a connection that is closed before there is a link for it."""
        hub = self.hub
        assert isinstance(hub, ServerCore)
        self.effects.now = now
        hub.admission.log_rejected(url, reason)

    # Connections of a client.

    def patience(self, session: Session, others: int, now: float) -> float:
        """Seconds for one address to respond, if ``others`` must be tried after it."""
        assert isinstance(self.hub, ClientCore)
        return self.hub.dialing.patience(session, others, now)

    def connected(self, session: Session, now: float, address: str = "") -> Link | None:
        """Make the link for a connection to the server. None: close it, it is not needed any more."""
        hub = self.hub
        assert isinstance(hub, ClientCore)
        return hub.connected(session, address or hub.dialing.address, now)

    def check_unused(self, link: Link, sock: socket.socket, now: float) -> None:
        """A client is about to write its first bytes: has the server closed the connection already?

        In a flood a server closes connections from which nothing has arrived. What was not written was
        certainly not processed, and the client may connect again; later its request would be in doubt.
        """
        # With a plain framing the server may close its half when it likes, and still read.
        if not (link.closed or link.is_open()) and has_ended(sock):
            self.hub.lost(link, ConnectionResetError("closed before anything was sent"), now)

    def connect_failed(self, session: Session, error: ConnectFailed, now: float) -> None:
        """The attempt to connect has failed."""
        assert isinstance(self.hub, ClientCore)
        self.hub.connect_failed(session, error, now)

    def connect_refused(self, session: Session, error: LinkError, now: float) -> None:
        """The attempt to connect was refused, and trying again cannot help."""
        assert isinstance(self.hub, ClientCore)
        self.hub.connect_refused(session, error, now)


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener(Listening):
    """The listener of a server, made by `choose.bind`."""

    def close_copy(self) -> None:
        """In a forked child: close the copy of the descriptor. The parent continues to listen."""
        raise NotImplementedError


MakeTls: TypeAlias = Callable[[], Any]
"""Makes the `TlsLink` of a connection, which is loaded only if TLS is used."""


class Route(NamedTuple):
    """An address that a client may connect to."""

    address: Address
    make_tls: MakeTls | None
    """Makes the TLS of a connection to it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Network:
    """Carries the bytes of an endpoint from ``start()`` to ``stop()``."""

    def __init__(self, events: NetworkEvents, now: Callable[[], float], has_manual_clock: bool) -> None:
        self.events = events
        self.now = now
        """The clock of the endpoint: seconds, as of ``time.monotonic()``."""
        self.routes: list[Route] = []
        """The addresses that a client tries, in this order."""
        self.make_socket: Callable[[], Any] | None = None
        """A function of the user that connects, or None."""
        self.has_manual_clock = has_manual_clock
        """Does the clock change only when a test advances it? Then real time must not end any wait."""

    def routes_of(self, session: Session) -> list[Route]:
        """The addresses, beginning with the one that is the session's turn."""
        first = session.attempts.route % len(self.routes)
        return self.routes[first:] + self.routes[:first]

    def make_tls_of(self, link: Link) -> Any:
        """The TLS of a new connection, if it has TLS."""
        route = self.routes[0]
        if len(self.routes) > 1:
            route = next(each for each in self.routes if each.address.url == link.address)
        return None if route.make_tls is None else route.make_tls()

    def failure(self, error: OSError) -> ConnectFailed:
        """The error of an attempt that has failed at every address."""
        return connect_error(" or ".join(route.address.url for route in self.routes), error)

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        raise NotImplementedError

    def stop_listening(self) -> None:
        """Accept the queued connections, then no more."""
        raise NotImplementedError

    def dial(self, session: Session) -> None:
        """Begin to connect. Calls `NetworkEvents.connected` or `connect_failed`, possibly at once."""
        raise NotImplementedError

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors. The connections belong to the parent."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ThreadedNetwork(Network):
    """For threads: one of them, the leader, polls and reads without the lock, and reports under the lock."""

    def __init__(
        self, events: NetworkEvents, poller: Poller, now: Callable[[], float], has_manual_clock: bool
    ) -> None:
        super().__init__(events, now, has_manual_clock)
        self.poller = poller

    def read(self, timeout: float | None) -> None:
        """Wait until something is ready, and receive. Without the lock, one thread at a time."""
        raise NotImplementedError

    def report(self, now: float) -> None:
        """Report what was read, and handle the other ready sockets. `NetworkEvents.turn_done` must follow."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything except the poller, which threads may still be using."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class AioNetwork(Network):
    """For asyncio: reports when the event loop calls it, then calls `NetworkEvents.turn_done`."""

    async def close(self) -> None:
        """Close everything."""
        raise NotImplementedError

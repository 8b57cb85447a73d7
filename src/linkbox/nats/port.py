"""The half of a network over a broker that belongs to the endpoint. See the docstring of the package."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from linkbox.address import Address
from linkbox.broker import Nats
from linkbox.core.connection import Carrier
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.errors import ConnectFailed, LinkError
from linkbox.networks.choose import BrokerAccess
from linkbox.networks.network import Listener, NetworkEvents

L = TypeVar("L", bound=Link)
Report = tuple[Callable[..., None], tuple[Any, ...]]


class Bell(Protocol):
    """Notifies the endpoint that reports wait. May be called from any thread."""

    def ring(self) -> None:
        """Let the endpoint call `Port.report` soon."""


class NatsListener(Listener):
    """A name that a server serves. It is open once the broker has confirmed that."""

    def __init__(self) -> None:
        self.is_open = False

    def close(self) -> None:
        pass  # The network unsubscribes.

    def close_copy(self) -> None:
        pass  # The network closes the copies.


class LinkCarrier(Carrier):
    """The ``link.carrier`` of a link to the broker."""

    __slots__ = ("key", "link", "port")

    def __init__(self, port: Port, link: Link, key: int) -> None:
        self.port: Port = port
        self.link: Link = link
        self.key: int = key
        """The number of the link among those of its port."""

    def flush(self) -> None:
        self.port.flush(self.link)


class Port:
    """What the ports of all patterns share."""

    def __init__(
        self,
        events: NetworkEvents,
        address: Address,
        access: BrokerAccess,
        bell: Bell,
        post: Callable[..., None],
        now: Callable[[], float],
    ) -> None:
        self.events = events
        self.address = address
        self.access = access
        self.post = post
        """Call a function on the loop of the exchange."""
        self.now = now
        self._bell = bell
        self._reports: deque[Report] = deque()
        self.listener: NatsListener | None = None
        self.exchange: Any = None
        """The other half, a subclass of `Exchange`: made once this one is."""

    def make_exchange(self) -> Any:
        """Make the exchange, on its loop."""
        raise NotImplementedError

    @property
    def settings(self) -> Nats:
        """The settings of the broker."""
        return self.access.settings

    # -- from the exchange, on its loop --------------------------------------------------------------------

    def notify(self, function: Callable[..., None], *arguments: Any) -> None:
        """Let the endpoint call ``function``, in order."""
        self._reports.append((function, arguments))
        self._bell.ring()

    # -- for the network -----------------------------------------------------------------------------------

    def report(self, now: float) -> None:
        """Call what `notify` was given. Under the lock, or on the loop of the endpoint."""
        reports = self._reports
        for _ in range(len(reports)):  # what is added meanwhile causes another call
            function, arguments = reports.popleft()
            try:
                function(*arguments)
            except BaseException as error:
                self.events.turn_failed(error)

    def is_busy(self) -> bool:
        """Do reports wait?"""
        return bool(self._reports)

    def listen(self, listener: Listener) -> None:
        """Begin to serve the name: reports `on_open` or `on_open_failed`."""
        assert isinstance(listener, NatsListener)
        self.listener = listener
        self.post(self.exchange.start_serving)

    def stop_listening(self) -> None:
        """Serve the name no more."""
        if self.listener is not None:
            self.listener = None
            self.post(self.exchange.stop_serving)

    def dial(self, session: Session) -> None:
        """Begin to connect a session."""
        self.post(self.exchange.dial, session, self.events.patience(session, 0, self.now()))

    def flush(self, link: Link) -> None:
        """Write what the link has."""
        raise NotImplementedError

    def close_links(self) -> None:
        """The endpoint stops: write what the links still have, and close them."""
        raise NotImplementedError

    # -- reports -------------------------------------------------------------------------------------------

    def on_open(self) -> None:
        """The name is served."""
        self._decided(None)

    def on_open_failed(self, error: LinkError) -> None:
        """The name cannot be served."""
        self._decided(error)

    def _decided(self, error: LinkError | None) -> None:
        listener = self.listener
        if listener is not None:
            listener.is_open = error is None
            listener.error = error
            self.events.effects.to_wake.append(self.events.hub.changed)

    def on_dial_failed(self, session: Session, error: LinkError) -> None:
        """A session could not be connected."""
        if isinstance(error, ConnectFailed):
            self.events.connect_failed(session, error, self.now())
        else:
            self.events.connect_refused(session, error, self.now())


class LinksPort(Port, Generic[L]):
    """A port whose links share the connection of the exchange. A subclass says what `flush` does."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.links: dict[int, L] = {}
        """By their numbers."""
        self._last = 0

    def carry(self, link: L) -> None:
        """Carry a new link."""
        self._last += 1
        link.carrier = LinkCarrier(self, link, self._last)
        self.links[self._last] = link

    def drop_if_closed(self, link: Link) -> None:
        """Let go of a link that has nothing more to write."""
        carrier = link.carrier
        if link.closed and isinstance(carrier, LinkCarrier):
            link.carrier = None
            self.links.pop(carrier.key, None)

    def on_dialed(self, session: Session, most: int) -> None:
        """A client: a session can be carried. The broker accepts bodies of ``most`` bytes."""
        raise NotImplementedError

    def on_lost(self, error: OSError) -> None:
        """The connection to the broker is lost."""
        for link in list(self.links.values()):
            self.events.hub.lost(link, error, self.now())

    def close_links(self) -> None:
        self.report(self.now())
        for link in list(self.links.values()):
            self.flush(link)

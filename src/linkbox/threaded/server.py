"""The three servers."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from linkbox.core.asks import Incoming, Request
from linkbox.core.framings import Framing, Linked
from linkbox.core.mailbox import Source
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.server import ServerHub
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Settings
from linkbox.errors import MailboxFull, StateError
from linkbox.events import Peer
from linkbox.formats import Bytes, FormatLike, K_co, T
from linkbox.limits import Limits
from linkbox.threaded.endpoint import Endpoint, Overflow
from linkbox.threaded.listening import bind, check_server_address, descriptor_bound, release, socket_file
from linkbox.threaded.mailbox import Receiving
from linkbox.threaded.receipts import Receipt

log = logging.getLogger("linkbox")

S = TypeVar("S", bound="Server[Any, Any]")
H = TypeVar("H", bound=Callable[[Request[Any]], Any])

# The default of format=. It must keep its type: type checkers infer the endpoint's from it.
BYTES: Final = Bytes()


class Server(Endpoint, Receiving[T, K_co]):
    """Abstract base of the servers: binds, listens, accepts in the background."""

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: Any,
        *,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        name: str | None,
        insecure: bool,
        max_peers: int,
    ) -> None:
        if type(self) is Server:
            raise TypeError("Server is abstract: use ServerP2P, ServerP2M or ServerAR")
        if not isinstance(max_peers, int) or max_peers < 1:
            raise ValueError(f"max_peers={max_peers!r}: a whole number from 1 is needed")
        self._bound = check_server_address(address, insecure)
        self._given = address if isinstance(address, socket.socket) else None
        super().__init__(self._bound, format, framing, limits, overflow, name)
        self._file: tuple[int, int] | None = None
        self._max_peers = max_peers

    def start(self: S) -> S:
        """Bind and listen; connections are accepted in the background from then on. Returns self.

        `ListenFailed` when the address is in use or not this machine's. Starting what is started
        already does nothing.
        """
        self._start()
        return self

    def _start(self) -> None:
        with self.lock:
            if self._hub is not None and not self._is_stopping:
                return
        self._stopped.wait()
        with self.lock:
            if self._is_fork:
                raise self._not_running()
            if self._hub is not None:
                return
            listener, self._bound = bind(self._bound, self._given)
            self._file = socket_file(self._bound, self._given)
            self._address = self._bound
            hub = ServerHub(self._settings(), self._mailbox, self._max_peers, monotonic())
            hub.max_links = descriptor_bound(self._limits.connections)
            self._open(hub).listen(listener)
            self._on_start()

    def _on_start(self) -> None:
        """Start threads of one's own."""

    def _on_stopped(self) -> None:
        release(self._bound, self._file)

    def _server_hub(self) -> ServerHub:
        hub = self._running()
        assert isinstance(hub, ServerHub)
        return hub

    def _session_of(self, hub: ServerHub, peer: Peer) -> Session:
        session = hub.sessions.get(peer.id)
        if session is None:
            raise StateError(f"{peer} is not connected to {self}")
        return session

    def disconnect(self, peer: Peer, reason: str = "disconnected by the server") -> None:
        """Close the link to a peer. It is told why, and does not come back by itself."""
        with self.lock:
            hub = self._server_hub()
            hub.disconnect(self._session_of(hub, peer), reason, monotonic())
            self.transport.update()


class LinkView(Receiving[T, K_co]):
    """One peer's part of a server's mailbox, and the way back to it. From ``server.link(peer)``.

    A message is taken once, through this view or the server's own calls. It is over (`EndOfData`) when
    the peer has ended; `PeerLost` when it was lost instead.
    """

    def __init__(self, server: ServerP2P[T, K_co], source: Source) -> None:
        self._server = server
        self._mailbox = server._mailbox
        self._source: Source = source
        self.lock = server.lock
        self.peer: Peer = source.peer
        """Whose link this is."""

    def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send to this peer; see `ServerP2P.send`."""
        return self._server.send(data, self.peer, timeout)

    def end(self) -> None:
        """End the conversation with this peer; see `ServerP2P.end`."""
        with self.lock:
            if self._source.ended is None:  # else it ends by itself
                self._server.end(self.peer)

    def _flush_acks(self) -> None:
        self._server._flush_acks()

    def _await(self, wish: Any, deadline: float) -> bool:
        return self._server._await(wish, deadline)

    def _over(self) -> Exception | None:
        return self._source.ended or self._server._over()

    def _grow(self, count: int) -> None:
        self._server._grow(count)

    def _default_timeout(self) -> float | None:
        return self._server._default_timeout()


class ServerP2P(Server[T, K_co]):
    """Point to point: one client (or ``max_peers`` of them), messages both ways at any time."""

    _pattern = P2P

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        overflow: Overflow = "block",
        name: str | None = None,
        insecure: bool = False,
        max_peers: int = 1,
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow=overflow,
            name=name,
            insecure=insecure,
            max_peers=max_peers,
        )

    def _target(self, hub: ServerHub, to: Peer | None) -> Session:
        if to is not None:
            return self._session_of(hub, to)
        sessions = hub.sessions
        if len(sessions) == 1:
            return next(iter(sessions.values()))
        if not sessions:
            raise StateError(f"nobody is connected to {self} yet; call wait_connected() first")
        raise StateError(
            f"{len(sessions)} peers are connected to {self}: say send(…, to=peer), or broadcast(…)"
        )

    def send(self, data: T, to: Peer | None = None, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. ``to`` picks the peer when there are several. Raises `FormatError` or `TooLarge`
        for what cannot be sent, `StateError` when nobody is connected, or after the end.
        """
        payload = self._payload(data)
        with self.lock:
            hub = self._server_hub()
            session = self._target(hub, to)
            if not session.has_room():
                self._wait_for_room(session, timeout)
            receipt: Any = hub.send(session, payload)
            self.transport.update()
        return receipt  # type: ignore[no-any-return]

    def _wait_for_room(self, session: Session, timeout: float | None) -> None:
        wait_for_room(self, session, timeout)

    def broadcast(self, data: T) -> dict[Peer, Receipt]:
        """Send to every peer that is connected; returns their receipts. Never waits.

        For a peer whose send window is full the receipt has failed with `MailboxFull`.
        """
        payload = self._payload(data)
        receipts: dict[Peer, Any] = {}
        with self.lock:
            hub = self._server_hub()
            for session in list(hub.sessions.values()):
                if session.ending or session.error is not None:
                    continue
                if session.has_room():
                    receipts[session.peer] = hub.send(session, payload)
                else:
                    receipts[session.peer] = Receipt(
                        session, error=MailboxFull(f"{session.peer} does not keep up")
                    )
            self.transport.update()
        return receipts

    def end(self, to: Peer | None = None) -> None:
        """Send the END mark: the other side gets all that was sent before, says what it still has to
        say, and the link closes. Nothing can be sent after it."""
        with self.lock:
            hub = self._server_hub()
            hub.end(self._target(hub, to))
            self.transport.update()

    def link(self, peer: Peer) -> LinkView[T, K_co]:
        """A view of one peer's messages: ``data_get`` and all the others, ``send``, ``end``.

        Also of a peer that has gone, as long as something of it waits in the mailbox.
        """
        with self.lock:
            left = next((each for each in self._mailbox.sources if each.peer.id == peer.id), None)
            return LinkView(self, left or self._session_of(self._server_hub(), peer).source)


class SwitchedOff:
    """A method that a subclass does not have: ``hasattr`` is False, and a type checker objects."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> SwitchedOff:
        kind = (owner or type(instance)).__name__
        raise AttributeError(f"{kind} has no {self._name}(): it only receives")


class ServerP2M(ServerP2P[T, K_co]):
    """Many to one: any number of clients push into one mailbox; ``message_get().peer`` says whose.

    It never closes a link first, but at ``stop()``.
    """

    _pattern = P2M

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        overflow: Overflow = "block",
        name: str | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow=overflow,
            name=name,
            insecure=insecure,
            max_peers=max_peers,
        )

    # Leaving out what the base has is what a type checker should tell users about, not us.
    send: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    broadcast: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    end: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    link: SwitchedOff = SwitchedOff()  # type: ignore[assignment]


class ServerAR(Server[Request[T], str], Generic[T]):
    """Ask - response: a ``handler`` answers, or the mailbox holds the requests for you to answer."""

    _pattern = AR

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: FormatLike[T, object] = BYTES,  # type: ignore[assignment]
        *,
        handler: Callable[[Request[T]], T] | None = None,
        workers: int = 8,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        name: str | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
    ) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers={workers!r}: a whole number from 1 is needed")
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow="block",
            name=name,
            insecure=insecure,
            max_peers=max_peers,
        )
        self._handler = handler
        self._workers = workers
        self._current = threading.local()

    def handler(self, fn: H) -> H:
        """Decorator: answer asks with ``fn(request)``. Before ``start()``."""
        with self.lock:
            if self._hub is not None:
                raise StateError(f"{self} is started already: set the handler before start()")
            self._handler = fn
        return fn

    def _settings(self) -> Settings:
        settings = super()._settings()
        settings.join = self.join_messages
        return settings

    def _on_start(self) -> None:
        if self._handler is not None:
            for number in range(self._workers):
                self._start_thread(self._work, f"worker {number + 1}")

    def _work(self) -> None:
        transport = self.transport
        mailbox = self._mailbox
        while True:
            with self.lock:
                if not transport.engine.wait(mailbox.box, lambda: mailbox.count, is_service=True):
                    return
                request = mailbox.take()
                if mailbox.count:
                    transport.engine.ring(mailbox.box)
            if not self._is_obsolete(request):
                self._handle(request)

    def _is_obsolete(self, request: Request[T]) -> bool:
        """Nobody waits for the answer any more: do not even start."""
        incoming = request._incoming
        if incoming.is_cancelled:
            return True
        if self.is_late(incoming):
            self.fail_request(
                incoming, "linkbox.DeadlineExceeded", "the deadline passed before work on it began"
            )
            return True
        return False

    def _handle(self, request: Request[T]) -> None:
        handler = self._handler
        assert handler is not None
        incoming = request._incoming
        try:
            value = handler(request)
            if not incoming.is_finished:
                self.answer_request(incoming, value)
        except BaseException as error:  # SystemExit too: this thread is ours, and goes on
            if not incoming.is_cancelled:
                log.exception("linkbox: the handler of %s failed on an ask of %s", self, request.peer)
            if not incoming.is_finished:
                self.fail_request(incoming, type(error).__name__, str(error))

    def data_get(self, timeout: float | None = None) -> Request[T]:
        """Take the next ask; see `Receiving.data_get`. One that nobody waits for any more is skipped."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            request = super().data_get(timeout)
            if not self._is_obsolete(request):
                return request
            if deadline is not None:
                timeout = max(0.0, deadline - monotonic())

    # What a Request needs.

    def join_messages(self, messages: list[Any]) -> Any:
        """One value out of the messages of an ask."""
        if self._is_bytes:
            return messages[0] if len(messages) == 1 else b"".join(messages)
        if len(messages) != 1:
            raise StateError(f"this ask has {len(messages)} messages: use request.messages")
        return messages[0]

    def is_late(self, incoming: Incoming) -> bool:
        """Is the asker's deadline over?"""
        return incoming.deadline is not None and monotonic() >= incoming.deadline

    def answer_request(self, incoming: Incoming, value: Any) -> None:
        """Send an answer."""
        payload = self._payload(value)
        with self.lock:
            if self._hub is not None:
                self._hub.answer(incoming, payload)
                self.transport.update()

    def fail_request(self, incoming: Incoming, type: str, text: str) -> None:
        """Send a failure."""
        with self.lock:
            if self._hub is not None:
                self._hub.fail_ask(incoming, type, text)
                self.transport.update()

    @property
    def forgotten(self) -> Any:
        """Where a `Request` that was dropped unanswered is left, from any thread, without a lock."""
        hub = self._hub
        return [] if hub is None else hub.forgotten


def wait_for_room(endpoint: Endpoint, session: Session, timeout: float | None) -> None:
    """Wait until the send window has room. Under the lock."""
    if endpoint._in_callback():
        raise MailboxFull(f"the send window to {session.peer} is full, and a callback must not wait for it")
    deadline = NEVER if timeout is None else monotonic() + timeout
    endpoint._await(
        lambda: session.has_room() or session.error is not None or session.ending, deadline, session.box
    )
    if session.error is not None or session.ending:
        return  # Sending will say why not.
    if not session.has_room():
        if endpoint._is_stopping:
            raise endpoint._not_running()
        raise MailboxFull(
            f"no room in the send window to {session.peer} within {timeout} s: it does not keep up"
        )

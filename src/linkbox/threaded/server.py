"""The three servers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from linkbox.core.asks import Request
from linkbox.core.framings import Framing, Linked
from linkbox.core.mailbox import Source
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.session import NEVER, Session
from linkbox.events import Peer
from linkbox.formats import Bytes, FormatLike, K_co, T
from linkbox.front.base import Overflow, StorePath
from linkbox.front.secrets import Secret
from linkbox.front.serving import Accept, Answering, Serving, SwitchedOff
from linkbox.limits import Limits
from linkbox.threaded.endpoint import Endpoint
from linkbox.threaded.interrupts import interrupts, wait_for
from linkbox.threaded.mailbox import Receiving
from linkbox.threaded.receipts import Receipt

if TYPE_CHECKING:  # so that only who uses TLS pays for loading it
    from ssl import SSLContext

S = TypeVar("S", bound="Server[Any, Any]")

# The default of format=. It must keep its type: type checkers infer the endpoint's from it.
BYTES: Final = Bytes()


class Server(Serving, Endpoint, Receiving[T, K_co]):
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
        ssl: SSLContext | None,
        secret: Secret | None,
        accept: Accept | None,
        insecure: bool,
        max_peers: int,
        store: StorePath = None,
    ) -> None:
        if type(self) is Server:
            raise TypeError("Server is abstract: use ServerP2P, ServerP2M or ServerAR")
        super().__init__(
            address,
            format,
            framing,
            limits,
            overflow,
            name,
            ssl,
            secret,
            accept,
            insecure,
            max_peers,
            store,
        )

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
        wait_for(self._stopped)
        with self.lock:
            if self._is_fork:
                raise self._not_running()
            if self._hub is not None:
                return
            listener = self._bind()
            try:
                transport = self._open(self._make_hub())
            except BaseException:
                listener.close()
                raise
            transport.listen(listener)
            self._on_start()

    def _on_start(self) -> None:
        """Start threads of one's own."""
        if self._accept is not None:
            self._start_thread(self._accept_loop, "accept")

    def _accept_loop(self) -> None:
        """Ask ``accept=``: user code, so on a thread that only newcomers wait for."""
        transport, hub = self.transport, self._server_hub()
        assert self._accept is not None
        while True:
            with self.lock:
                if not transport.engine.wait(hub.newcomers_box, lambda: hub.newcomers, is_service=True):
                    return
                newcomer = hub.newcomers.popleft()
            if newcomer.link.closed:
                continue
            try:
                is_welcome = bool(self._accept(newcomer.info))
            except BaseException as error:  # SystemExit too: this thread is ours, and goes on
                is_welcome = self._accept_failed(newcomer.info, error)
            with self.lock:
                hub.decide_on(newcomer, is_welcome, monotonic())
                transport.update()


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
        store: StorePath = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        accept: Accept | None = None,
        insecure: bool = False,
        max_peers: int = 1,
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow=overflow,
            store=store,
            name=name,
            ssl=ssl,
            secret=secret,
            accept=accept,
            insecure=insecure,
            max_peers=max_peers,
        )

    def send(self, data: T, to: Peer | None = None, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. ``to`` picks the peer when there are several. Raises `FormatError` or `TooLarge`
        for what cannot be sent, `StateError` when nobody is connected, or after the end.
        """
        if interrupts.pending:
            interrupts.run_pending()
        payload = self._payload(data)
        with self.lock:
            hub = self._server_hub()
            session = self._target(hub, to)
            if hub.journal is not None:
                return self._spool(session, [payload])[0]  # type: ignore[no-any-return]
            if not session.has_room():
                self._wait_for_room(session, timeout)
            receipt: Any = hub.send(session, payload)
            self.transport.settle()
        return receipt  # type: ignore[no-any-return]

    def _wait_for_room(self, session: Session, timeout: float | None) -> None:
        wait_for_room(self, session, timeout)

    def broadcast(self, data: T) -> dict[Peer, Receipt]:
        """Send to every peer that is connected; returns their receipts. Waits for nothing but a store.

        For a peer whose send window is full the receipt has failed with `MailboxFull`.
        """
        payload = self._payload(data)
        with self.lock:
            hub = self._server_hub()
            if hub.journal is not None:
                entries = self._spool_to_all(hub, payload)
                return {peer: self._on_disk(entry)[0] for peer, entry in entries.items()}
            receipts = self._send_to_all(hub, payload)
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
            return LinkView(self, self._source_of(peer))


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
        store: StorePath = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        accept: Accept | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow=overflow,
            store=store,
            name=name,
            ssl=ssl,
            secret=secret,
            accept=accept,
            insecure=insecure,
            max_peers=max_peers,
        )

    # Leaving out what the base has is what a type checker should tell users about, not us.
    send: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    broadcast: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    end: SwitchedOff = SwitchedOff()  # type: ignore[assignment]
    link: SwitchedOff = SwitchedOff()  # type: ignore[assignment]


class ServerAR(Answering, Server[Request[T], str], Generic[T]):
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
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        accept: Accept | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow="block",
            name=name,
            ssl=ssl,
            secret=secret,
            accept=accept,
            insecure=insecure,
            max_peers=max_peers,
        )
        self._set_handler(handler, workers)

    def _on_start(self) -> None:
        super()._on_start()
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

    def _handle(self, request: Request[T]) -> None:
        assert self._handler is not None
        try:
            self._on_handled(request, self._handler(request))
        except BaseException as error:  # SystemExit too: this thread is ours, and goes on
            self._on_failed(request, error)

    def data_get(self, timeout: float | None = None) -> Request[T]:
        """Take the next ask; see `Receiving.data_get`. One that nobody waits for any more is skipped."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            request = super().data_get(timeout)
            if not self._is_obsolete(request):
                return request
            if deadline is not None:
                timeout = max(0.0, deadline - monotonic())


def wait_for_room(endpoint: Endpoint, session: Session, timeout: float | None) -> None:
    """Wait until the send window has room. Under the lock."""
    endpoint._may_wait_for_room(session)
    deadline = NEVER if timeout is None else monotonic() + timeout
    endpoint._await(
        lambda: session.has_room() or session.error is not None or session.ending, deadline, session.box
    )
    endpoint._check_room(session, timeout)

"""The three servers."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from linkbox.aio.endpoint import Endpoint
from linkbox.aio.mailbox import Receiving
from linkbox.aio.receipts import Receipt
from linkbox.core.asks import Request
from linkbox.core.framings import Framing, Linked
from linkbox.core.mailbox import Source
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.session import NEVER, Session
from linkbox.events import Peer
from linkbox.formats import Bytes, FormatLike, K_co, T
from linkbox.front.base import Overflow, StorePath
from linkbox.front.secrets import Secret
from linkbox.front.serving import Accept, AcceptLater, Answering, Serving, SwitchedOff
from linkbox.limits import Limits

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
        accept: Accept | AcceptLater | None,
        insecure: bool,
        max_peers: int,
        store: StorePath = None,
    ) -> None:
        if type(self) is Server:
            raise TypeError("Server is abstract: use ServerP2P, ServerP2M or ServerAR")
        super().__init__(
            address, format, framing, limits, overflow, name, ssl, secret, accept, insecure, max_peers, store
        )

    async def start(self: S) -> S:
        """Bind and listen; connections are accepted in the background from then on. Returns self.

        `ListenFailed` when the address is in use or not this machine's. Starting what is started
        already does nothing.
        """
        await self._wait_for_stop()
        if self._hub is None:
            is_name = self._bound.scheme != "unix" and self._bound.host_kind == "name"
            listener = await asyncio.to_thread(self._bind) if is_name else self._bind()
            if self._hub is not None:  # another task was quicker
                listener.close()
                return self
            try:
                driver = await self._open_with_store(self._make_hub())
            except BaseException:
                listener.close()
                raise
            if driver is None:
                listener.close()
                return self
            driver.listen(listener)
            self._on_start()
        return self

    def _on_start(self) -> None:
        """Start tasks of one's own."""
        if self._accept is not None:
            self._tasks.append(asyncio.get_running_loop().create_task(self._accept_loop()))

    async def _accept_loop(self) -> None:
        """Ask ``accept=``: user code, so in a task that only newcomers wait for."""
        driver, hub = self.driver, self._server_hub()
        assert self._accept is not None
        while await driver.wait(hub.newcomers_box, lambda: hub.newcomers):
            newcomer = hub.newcomers.popleft()
            if newcomer.link.closed:
                continue
            try:
                answer = self._accept(newcomer.info)
                if inspect.isawaitable(answer):
                    async with asyncio.timeout(self._limits.handshake):  # the newcomer waits no longer
                        answer = await answer
                is_welcome = bool(answer)
            except Exception as error:
                is_welcome = self._accept_failed(newcomer.info, error)
            hub.decide_on(newcomer, is_welcome, self._now())
            driver.settle()


class LinkView(Receiving[T, K_co]):
    """One peer's part of a server's mailbox, and the way back to it. From ``server.link(peer)``.

    A message is taken once, through this view or the server's own calls. It is over (`EndOfData`) when
    the peer has ended; `PeerLost` when it was lost instead.
    """

    def __init__(self, server: ServerP2P[T, K_co], source: Source) -> None:
        self._server = server
        self._mailbox = server._mailbox
        self._now = server._now
        self._source: Source = source
        self.lock = server.lock
        self.peer: Peer = source.peer
        """Whose link this is."""

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send to this peer; see `ServerP2P.send`."""
        return await self._server.send(data, self.peer, timeout)

    async def end(self) -> None:
        """End the conversation with this peer; see `ServerP2P.end`."""
        if self._source.ended is None:  # else it ends by itself
            await self._server.end(self.peer)

    def _flush_acks(self) -> None:
        self._server._flush_acks()

    async def _await(self, wish: Any, deadline: float) -> bool:
        return await self._server._await(wish, deadline)

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
        accept: Accept | AcceptLater | None = None,
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

    async def send(self, data: T, to: Peer | None = None, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. ``to`` picks the peer when there are several. Raises `FormatError` or `TooLarge`
        for what cannot be sent, `StateError` when nobody is connected, or after the end.
        """
        payload = self._payload(data)
        hub = self._server_hub()
        session = self._target(hub, to)
        if hub.journal is not None:
            return (await self._spool(session, [payload]))[0]  # type: ignore[no-any-return]
        if not session.has_room():
            await wait_for_room(self, session, timeout)
        receipt: Any = hub.send(session, payload)
        self._update()
        return receipt  # type: ignore[no-any-return]

    async def broadcast(self, data: T) -> dict[Peer, Receipt]:
        """Send to every peer that is connected; returns their receipts. Waits for nothing but a store.

        For a peer whose send window is full the receipt has failed with `MailboxFull`.
        """
        payload = self._payload(data)
        hub = self._server_hub()
        if hub.journal is not None:
            entries = self._spool_to_all(hub, payload)
            return {peer: (await self._on_disk(entry))[0] for peer, entry in entries.items()}
        receipts = self._send_to_all(hub, payload)
        self._update()
        return receipts

    async def end(self, to: Peer | None = None) -> None:
        """Send the END mark: the other side gets all that was sent before, says what it still has to
        say, and the link closes. Nothing can be sent after it."""
        hub = self._server_hub()
        hub.end(self._target(hub, to))
        self._update()

    def link(self, peer: Peer) -> LinkView[T, K_co]:
        """A view of one peer's messages: ``data_get`` and all the others, ``send``, ``end``.

        Also of a peer that has gone, as long as something of it waits in the mailbox.
        """
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
        accept: Accept | AcceptLater | None = None,
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
        handler: Callable[[Request[T]], T | Awaitable[T]] | None = None,
        workers: int = 8,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        accept: Accept | AcceptLater | None = None,
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
            self._tasks += [
                asyncio.get_running_loop().create_task(self._work()) for _ in range(self._workers)
            ]

    async def _work(self) -> None:
        driver, mailbox = self.driver, self._mailbox
        while await driver.wait(mailbox.box, lambda: mailbox.count):
            request = mailbox.take()
            if not self._is_obsolete(request):
                await self._handle(request)

    async def _handle(self, request: Request[T]) -> None:
        assert self._handler is not None
        try:
            value = self._handler(request)
            if inspect.isawaitable(value):
                value = await value
            self._on_handled(request, value)
        except Exception as error:
            self._on_failed(request, error)

    async def data_get(self, timeout: float | None = None) -> Request[T]:
        """Take the next ask; see `Receiving.data_get`. One that nobody waits for any more is skipped."""
        deadline = None if timeout is None else self._now() + timeout
        while True:
            request = await super().data_get(timeout)
            if not self._is_obsolete(request):
                return request
            if deadline is not None:
                timeout = max(0.0, deadline - self._now())


async def wait_for_room(endpoint: Endpoint, session: Session, timeout: float | None) -> None:
    """Wait until the send window has room."""
    endpoint._may_wait_for_room(session)
    deadline = NEVER if timeout is None else endpoint._now() + timeout
    await endpoint._await(
        lambda: session.has_room() or session.error is not None or session.ending, deadline, session.box
    )
    endpoint._check_room(session, timeout)

"""The three server classes: constructors, signatures and docstrings. The work is in `linkbox.operations`."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Generic, Self

from linkbox.aio.endpoint import Endpoint
from linkbox.aio.mailbox import Receiving
from linkbox.aio.receipts import Receipt
from linkbox.aio.runtime import Tasks
from linkbox.broker import Nats
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire.framing import Framing, Linked
from linkbox.dialogue import Dialogue
from linkbox.events import Peer
from linkbox.formats import FormatLike, K_co, T
from linkbox.limits import Limits
from linkbox.operations.answering import AnsweringServer
from linkbox.operations.options import BYTES, Accept, AcceptLater, Overflow, ServerOptions, StorePath
from linkbox.operations.plain_options import HALF_CLOSE, PlainServing, Proxies
from linkbox.operations.requests import H, Request
from linkbox.operations.secrets import Secret
from linkbox.operations.serving import PeerView, SendingServer, ServerOperations
from linkbox.operations.taking import Taking, TakingRequests
from linkbox.operations.unsupported import Unsupported, declare_abstract

if TYPE_CHECKING:  # loaded only if TLS is used
    from ssl import SSLContext


class Server(Endpoint[T, K_co], ABC):
    """Abstract base of the servers: binds, listens, accepts in the background.

    ``proxy_protocol=True`` is for a server behind a proxy (haproxy, nginx): each connection must begin with a
    header of the PROXY protocol, version 1 or 2, from which `Peer.address` is taken. A list of networks
    (``["10.0.0.0/8"]``) also says which hosts are proxies; connections of others are refused.
    """

    _server: ServerOperations

    @abstractmethod
    def _set_up(self, options: ServerOptions) -> None:
        """Make the objects behind the public methods."""

    async def start(self) -> Self:
        """Bind and listen; connections are accepted in the background from then on. Returns self.

        Raises `ListenFailed` if the address is in use or does not belong to this machine. Does nothing if
        the server is started already.
        """
        await self._tasks.run(self._operations.start())
        return self

    def disconnect(self, peer: Peer, reason: str = "disconnected by the server") -> None:
        """Close the connection of a peer. It receives the reason and does not reconnect by itself."""
        self._server.disconnect(peer, reason)


class ServerP2P(Server[T, K_co]):
    """Point to point: one client (or ``max_peers`` of them), messages both ways at any time.

    Three options are for plain framings. ``idle_timeout``: a peer that sends nothing for that many seconds
    is disconnected. ``half_close``: a peer that has closed its half, which emits END, can be sent to for that
    many seconds, or until `end`; a new connection gets its slot. ``newest_wins``: if all slots are in use, a
    new connection gets that of an older one from the same host, which may be dead.
    """

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
        broker: Nats | None = None,
        accept: Accept | AcceptLater | None = None,
        insecure: bool = False,
        max_peers: int = 1,
        idle_timeout: float | None = None,
        half_close: float = HALF_CLOSE,
        newest_wins: bool = False,
        proxy_protocol: Proxies = False,
    ) -> None:
        self._set_up(
            ServerOptions(
                P2P, address, format, framing, limits, overflow, store, name, ssl, secret, accept, insecure,
                max_peers, PlainServing(True, None, idle_timeout, half_close, newest_wins),
                proxy_protocol, broker=broker,
            )
        )  # fmt: skip

    def _set_up(self, options: ServerOptions) -> None:
        tasks = Tasks(options)
        self._server = self._sender = operations = SendingServer(options, tasks, Receipt, self)
        self._attach(operations, Taking(operations), tasks)

    async def stop(self, timeout: float = 10.0, *, end: bool = True) -> bool:
        """Stop, as every endpoint does. ``end=True`` ends all conversations.

        ``end=False``, for a restart of the server: clients that reconnect come back as after a crash. With a
        store no conversation ends, and over a plain framing every one, whatever ``end`` is.
        """
        return await self._tasks.run(self._sender.ending(end).stop(timeout))

    async def send(self, data: T, to: Peer | None = None, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. ``to`` picks the peer when there are several. Raises `FormatError` or `TooLarge`
        for what cannot be sent, `StateError` when no peer is connected, or after the end.
        """
        if (driver := self._tasks.aio_driver) is not None and driver.loop.is_closed():
            self._tasks.on_lost()
        sent = self._sender.send(data, to, timeout)
        return sent if isinstance(sent, Receipt) else await self._tasks.run(sent)

    async def broadcast(self, data: T) -> dict[Peer, Receipt]:
        """Send to every peer with a session; returns their receipts. Waits for nothing but a store.

        A peer whose connection has dropped gets it when it comes back. What cannot be sent to one peer goes
        to the others, and the receipt of that one has failed: with `MailboxFull` if its send window is full,
        with `StoreError` beyond its share of a store, with `TooLarge` if it takes no such message.
        Raises `StoreError` only if the store cannot be written: then none of them gets it.
        """
        return await self._tasks.run(self._sender.broadcast(self._sender.encode(data)))

    async def end(self, to: Peer | None = None) -> None:
        """Send the END mark: the peer receives everything sent before, sends what it still has to send,
        and the connection closes. Nothing can be sent after it. Without ``to``, and if the only peer has
        ended already, it does nothing."""
        self._sender.end(to)

    def link(self, peer: Peer) -> LinkView[T, K_co]:
        """A view of one peer's messages: ``data_get`` and all the others, ``send``, ``end``.

        Also for a disconnected peer whose messages are still in the mailbox.
        """
        return LinkView(self._sender.view(peer), self._tasks)


class LinkView(Receiving[T, K_co]):
    """One peer's part of a server's mailbox, with ``send`` to that peer. From ``server.link(peer)``.

    A message is taken once, through this view or the server's own calls. The calls raise `EndOfData`
    after the peer's END, and `PeerLost` if the peer was lost.
    """

    def __init__(self, view: PeerView, tasks: Tasks) -> None:
        super().__init__(view, tasks)
        self._view = view

    @property
    def peer(self) -> Peer:
        """The peer of this view."""
        return self._view.peer

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send to this peer; see `ServerP2P.send`."""
        if (driver := self._tasks.aio_driver) is not None and driver.loop.is_closed():
            self._tasks.on_lost()
        sent = self._view.send(data, timeout)
        return sent if isinstance(sent, Receipt) else await self._tasks.run(sent)

    async def end(self) -> None:
        """End the conversation with this peer; see `ServerP2P.end`."""
        self._view.end()


class ServerP2M(ServerP2P[T, K_co]):
    """Many to one: any number of clients push into one mailbox; ``message_get().peer`` is the sender.

    It never closes a connection first, except in ``stop()``. For plain framings there are ``idle_timeout``
    and ``newest_wins``: see `ServerP2P`.
    """

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
        broker: Nats | None = None,
        accept: Accept | AcceptLater | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
        idle_timeout: float | None = None,
        newest_wins: bool = False,
        proxy_protocol: Proxies = False,
    ) -> None:
        self._set_up(
            ServerOptions(
                P2M, address, format, framing, limits, overflow, store, name, ssl, secret, accept, insecure,
                max_peers, PlainServing(True, None, idle_timeout, newest_wins=newest_wins),
                proxy_protocol, broker=broker,
            )
        )  # fmt: skip

    # Type checkers report this to users who call the methods; here it is intended.
    send: ClassVar[Unsupported] = Unsupported("send", "it only receives")  # type: ignore[assignment]
    broadcast: ClassVar[Unsupported] = Unsupported("broadcast", "it only receives")  # type: ignore[assignment]
    end: ClassVar[Unsupported] = Unsupported("end", "it only receives")  # type: ignore[assignment]
    link: ClassVar[Unsupported] = Unsupported("link", "it only receives")  # type: ignore[assignment]


class ServerAR(Server[Request[T], str], Generic[T]):
    """Ask - response: a ``handler`` responds to requests, or you take them from the mailbox and respond.

    A request whose client no longer waits is skipped: `data_get` does not return it, and no handler is
    called. The clients take turns: requests are handled one of each client at a time. No request of a client
    is started while it does not take its responses.

    Over a plain framing, ``keep_alive=False`` closes each connection after its response, and ``dialogue`` has
    a greeting, and responses to requests that fail.
    """

    def __init__(
        self,
        address: str | tuple[str, int] | socket.socket,
        format: FormatLike[T, object] = BYTES,  # type: ignore[assignment]
        *,
        handler: Callable[[Request[T]], T | Awaitable[T]] | None = None,
        workers: int = 8,
        keep_alive: bool = True,
        dialogue: Dialogue | None = None,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        store: None = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        broker: Nats | None = None,
        accept: Accept | AcceptLater | None = None,
        insecure: bool = False,
        max_peers: int = 1_000_000,
        proxy_protocol: Proxies = False,
    ) -> None:
        self._set_up(
            ServerOptions(
                AR, address, format, framing, limits, "block", store, name, ssl, secret, accept, insecure,
                max_peers, PlainServing(keep_alive, dialogue), proxy_protocol, handler, workers,
                broker=broker,
            )
        )  # fmt: skip

    def _set_up(self, options: ServerOptions) -> None:
        tasks = Tasks(options)
        self._server = self._answering = operations = AnsweringServer(options, tasks, Receipt, self)
        self._attach(operations, TakingRequests(operations, operations.requests), tasks)

    def handler(self, fn: H) -> H:
        """Decorator: respond to requests with ``fn(request)``. Before ``start()``."""
        self._answering.set_handler(fn)
        return fn


declare_abstract(Server)

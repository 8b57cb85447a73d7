"""The three client classes: constructors, signatures and docstrings. The work is in `linkbox.operations`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, ClassVar, Generic, Self

from linkbox.aio.endpoint import Endpoint
from linkbox.aio.receipts import Receipt
from linkbox.aio.runtime import Tasks
from linkbox.broker import Nats
from linkbox.core.backoff import Backoff
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire.framing import Framing, Linked
from linkbox.dialogue import Dialogue
from linkbox.formats import FormatLike, K_co, T
from linkbox.limits import Limits
from linkbox.operations.asking import AskingClient
from linkbox.operations.connecting import ConversingClient
from linkbox.operations.options import (
    BYTES,
    RECONNECT,
    ClientAddress,
    ClientOptions,
    ConnectLater,
    Overflow,
    StorePath,
)
from linkbox.operations.pushing import PushingClient
from linkbox.operations.secrets import Secret
from linkbox.operations.taking import Taking, TakingAnswers
from linkbox.operations.unsupported import Unsupported, declare_abstract

if TYPE_CHECKING:  # loaded only if TLS is used
    from ssl import SSLContext


class Client(Endpoint[T, K_co], ABC):
    """Abstract base of the clients: connects, and reconnects after a lost connection.

    ``address`` may be a list: its addresses are tried in order, then again from the first. Servers do not
    share sessions: another server is like one that was restarted (`SessionLost`).
    """

    @abstractmethod
    def _set_up(self, options: ClientOptions) -> None:
        """Make the objects behind the public methods."""

    async def start(self) -> Self:
        """Start the client; the first send or request connects. Returns self."""
        await self._tasks.run(self._operations.start())
        return self


class ClientP2P(Client[T, K_co]):
    """Point to point: one persistent link to a `ServerP2P`, messages both ways at any time.

    Over a plain framing the conversation ends when the peer closes the connection. If ``reconnect`` is given
    explicitly, the client connects again instead, until `stop` or `end`. ``idle_timeout``, for plain framings
    only: a connection on which nothing arrives for that many seconds is closed as lost.

    ``connect``, for proxies and tunnels: a function that returns a connected socket, called for each attempt
    on a thread, unless it is a coroutine function. ``address`` still names the server, for TLS and in errors.
    """

    def __init__(
        self,
        address: ClientAddress,
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
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = RECONNECT,
        idle_timeout: float | None = None,
        connect: ConnectLater | None = None,
    ) -> None:
        self._set_up(
            ClientOptions(
                P2P, address, format, framing, limits, overflow, store, name, ssl, secret, connect_timeout,
                reconnect, idle_timeout=idle_timeout, connect=connect, broker=broker,
            )
        )  # fmt: skip

    def _set_up(self, options: ClientOptions) -> None:
        tasks = Tasks(options)
        self._sender = operations = ConversingClient(options, tasks, Receipt, self)
        self._attach(operations, Taking(operations), tasks)

    async def start(self, wait: bool = True) -> ClientP2P[T, K_co]:
        """Connect. Returns self when the link is up; with ``wait=False`` at once.

        After the end of a conversation it begins a new one.
        Raises `ConnectFailed` if no connection is made within ``connect_timeout`` (with
        ``reconnect=None``: at the first attempt), `Refused` if the server rejects the client.
        """
        await self._tasks.run(self._sender.connect(wait))
        return self

    async def __aenter__(self) -> ClientP2P[T, K_co]:
        await self._tasks.run(self._sender.enter())
        return self

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. Raises `FormatError` or `TooLarge` for what cannot be sent, `StateError` before the
        first connection and after the end.
        """
        if (driver := self._tasks.aio_driver) is not None and driver.loop.is_closed():
            self._tasks.on_lost()
        sent = self._sender.send(data, timeout)
        return sent if isinstance(sent, Receipt) else await self._tasks.run(sent)

    async def end(self) -> None:
        """Send the END mark: the server receives everything sent before, sends what it still has to send,
        and the connection closes. Nothing can be sent after it."""
        self._sender.end()


class ClientP2M(Client[T, object], Generic[T]):
    """Many to one: pushes messages to a `ServerP2M`. It only sends; it has no mailbox.

    ``blocking=True``: each `send` connects, sends, waits until the server has the message, closes.
    ``blocking=False``: that happens in the background; `send` never raises for the network, errors come
    through callbacks (`EventKind.ERROR`) and receipts. ``linger``: seconds the connection is kept for
    the next send; by default 0 if blocking, else 1.
    """

    def __init__(
        self,
        address: ClientAddress,
        format: FormatLike[T, object] = BYTES,  # type: ignore[assignment]
        *,
        blocking: bool = True,
        linger: float | None = None,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        store: StorePath = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        broker: Nats | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
    ) -> None:
        self._set_up(
            ClientOptions(
                P2M, address, format, framing, limits, "block", store, name, ssl, secret, connect_timeout,
                reconnect, blocking=blocking, linger=linger, broker=broker,
            )
        )  # fmt: skip

    def _set_up(self, options: ClientOptions) -> None:
        tasks = Tasks(options)
        self._pusher = operations = PushingClient(options, tasks, Receipt, self)
        self._attach(operations, Taking(operations), tasks)

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message.

        Blocking: returns its receipt when the server has it (over a plain framing: when it was handed
        to the network); raises what went wrong, or `DeadlineExceeded` after ``timeout`` seconds.
        Non-blocking: returns at once; only a full send window makes it wait, up to ``timeout``
        (`MailboxFull`).
        """
        if (driver := self._tasks.aio_driver) is not None and driver.loop.is_closed():
            self._tasks.on_lost()
        sent = self._pusher.send(data, timeout)
        return sent if isinstance(sent, Receipt) else await self._tasks.run(sent)

    async def send_many(self, iterable: Iterable[T] | AsyncIterable[T], timeout: float | None = None) -> int:
        """Send many messages over one connection; returns how many. Takes async iterables as well.

        Blocking: returns when the server has all of them, raises what went wrong with the first that
        failed. Non-blocking: returns when all are queued. ``timeout`` in seconds, for all of it
        (`DeadlineExceeded`).
        """
        return await self._tasks.run(self._pusher.send_many(iterable, timeout))

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has everything that was sent. `DeadlineExceeded` after ``timeout`` seconds.

        Failed messages are not waited for, and not raised here: see callbacks and receipts.
        """
        await self._tasks.run(self._pusher.flush(timeout))

    data_empty: ClassVar[Unsupported] = Unsupported("data_empty", "it only sends")  # type: ignore[assignment]
    data_count: ClassVar[Unsupported] = Unsupported("data_count", "it only sends")  # type: ignore[assignment]
    data_get: ClassVar[Unsupported] = Unsupported("data_get", "it only sends")  # type: ignore[assignment]
    data_get_count: ClassVar[Unsupported] = Unsupported("data_get_count", "it only sends")  # type: ignore[assignment]
    data_get_until: ClassVar[Unsupported] = Unsupported("data_get_until", "it only sends")  # type: ignore[assignment]
    data_peek: ClassVar[Unsupported] = Unsupported("data_peek", "it only sends")  # type: ignore[assignment]
    bytes_get: ClassVar[Unsupported] = Unsupported("bytes_get", "it only sends")  # type: ignore[assignment]
    data_get_all: ClassVar[Unsupported] = Unsupported("data_get_all", "it only sends")  # type: ignore[assignment]
    message_get: ClassVar[Unsupported] = Unsupported("message_get", "it only sends")  # type: ignore[assignment]
    __aiter__: ClassVar[Unsupported] = Unsupported("__aiter__", "it only sends")  # type: ignore[assignment]


class ClientAR(Client[T, K_co]):
    """Ask - response: sends requests to a `ServerAR`, each on its own connection unless ``keep_alive``.

    Over a plain framing, ``dialogue`` says how requests and responses follow each other. ``connections`` are
    open at a time, by default one: requests wait for it, and their timeouts include the wait. Messages that
    nobody has asked for go to the mailbox.
    """

    def __init__(
        self,
        address: ClientAddress,
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        keep_alive: bool = False,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        store: None = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        broker: Nats | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
        dialogue: Dialogue | None = None,
        connections: int | None = None,
    ) -> None:
        self._set_up(
            ClientOptions(
                AR, address, format, framing, limits, "block", store, name, ssl, secret, connect_timeout,
                reconnect, keep_alive=keep_alive, dialogue=dialogue, connections=connections, broker=broker,
            )
        )  # fmt: skip

    def _set_up(self, options: ClientOptions) -> None:
        tasks = Tasks(options)
        self._asking = operations = AskingClient(options, tasks, Receipt, self)
        self._attach(operations, TakingAnswers(operations), tasks)

    async def ask(self, data: T, timeout: float | None = 30.0) -> T:
        """Send a request, and wait for the response.

        Raises `AnswerError` when the server's handler failed, `DeadlineExceeded` after ``timeout``
        seconds (which cancels the request at the server), `PeerLost` at once when the server dies,
        `ConnectFailed` when it cannot be reached. A failed request does not affect the next one. A request
        is never executed twice.
        """
        return await self._tasks.run(self._asking.ask(self._asking.encode(data), timeout, data))

    async def ask_many(self, iterable: Iterable[T] | AsyncIterable[T], timeout: float | None = 30.0) -> T:
        """One request made of several messages, sent as the iterable yields them; one response."""
        return await self._tasks.run(self._asking.ask_many(iterable, timeout))

    async def tell(self, data: T, timeout: float | None = 30.0) -> None:
        """Send a command that has no response; returns when it was handed to the network.

        For plain framings only: it waits for its turn on the connection, up to ``timeout`` seconds
        (`DeadlineExceeded`). With `Linked` each request has a response: `StateError`.
        """
        await self._tasks.run(self._asking.tell(self._asking.encode(data), timeout))

    async def send(self, data: T) -> Receipt:
        """Send a request without waiting: the response goes to the mailbox and emits `EventKind.DATA`.

        If the request fails, its error is in the mailbox instead: `data_get` raises it, and
        ``message_get().receipt`` identifies the request.
        """
        return await self._tasks.run(self._asking.send(self._asking.encode(data), data))


declare_abstract(Client)

"""The three clients."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from linkbox.aio.endpoint import Endpoint
from linkbox.aio.mailbox import Receiving
from linkbox.aio.receipts import Receipt
from linkbox.aio.server import wait_for_room
from linkbox.core.asks import Ask
from linkbox.core.backoff import Backoff
from linkbox.core.client import ClientHub
from linkbox.core.framings import Framing, Linked
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.session import NEVER, Session
from linkbox.errors import DeadlineExceeded, MailboxFull, PeerLost, StateError
from linkbox.formats import Bytes, FormatLike, K_co, T
from linkbox.front.base import Overflow, StorePath
from linkbox.front.calling import CHUNK, Asking, Calling, Conversing, Pushing
from linkbox.front.secrets import Secret
from linkbox.front.storing import Bulk
from linkbox.limits import Limits

if TYPE_CHECKING:  # so that only who uses TLS pays for loading it
    from ssl import SSLContext

C = TypeVar("C", bound="Client")

# The default of format=. It must keep its type: type checkers infer the endpoint's from it.
BYTES: Final = Bytes()


class Client(Calling, Endpoint):
    """Abstract base of the clients: connects, and comes back after a drop."""

    def __init__(
        self,
        address: str | tuple[str, int],
        format: Any,
        *,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        name: str | None,
        ssl: SSLContext | None,
        secret: Secret | None,
        connect_timeout: float,
        reconnect: Backoff | None,
        store: StorePath = None,
    ) -> None:
        if type(self) is Client:
            raise TypeError("Client is abstract: use ClientP2P, ClientP2M or ClientAR")
        super().__init__(
            address, format, framing, limits, overflow, name, ssl, secret, connect_timeout, reconnect, store
        )

    async def start(self: C) -> C:
        """Get ready; a connection is made by the first send or ask. Returns self."""
        await self._wait_for_stop()
        await self._started_hub()
        return self

    async def _started_hub(self) -> ClientHub:
        """The hub; starts what is not started, a store included."""
        if self._hub is None and self._store_path is not None:
            hub = self._make_hub()
            if await self._open_with_store(hub) is not None:
                self._on_start(hub)
        return self._client_hub()

    def _client_hub(self) -> ClientHub:
        """The hub; starts what is not started."""
        if self._hub is None:
            hub = self._make_hub()
            self._open(hub)
            self._on_start(hub)
        hub = self._running()  # type: ignore[assignment]
        assert isinstance(hub, ClientHub)
        return hub


class ClientP2P(Conversing, Client, Receiving[T, K_co]):
    """Point to point: one persistent link to a `ServerP2P`, messages both ways at any time."""

    _pattern = P2P

    def __init__(
        self,
        address: str | tuple[str, int],
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        overflow: Overflow = "block",
        store: StorePath = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
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
            connect_timeout=connect_timeout,
            reconnect=reconnect,
        )

    async def start(self, wait: bool = True) -> ClientP2P[T, K_co]:
        """Connect. Returns self when the link is up; with ``wait=False`` at once.

        `ConnectFailed` when nobody is there within ``connect_timeout`` (with ``reconnect=None``: at the
        first try), `Refused` when the server says no.
        """
        await super().start()
        if wait:
            hub = self._running()
            deadline = NEVER if hub.journal is None else self._now() + self._connect_timeout
            try:
                await self.driver.wait(hub.box, lambda: self._is_decided(self._session(hub)), deadline)
            except BaseException:  # cancelled: nobody will stop what did not start
                await self.stop(0)
                raise
            error = self._why_down(self._session(hub))
            if error is not None:
                await self.stop()
                raise error
        return self

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. Raises `FormatError` or `TooLarge` for what cannot be sent, `StateError` before the
        first connection and after the end.
        """
        payload = self._payload(data)
        hub = self._running()
        session = self._sending(hub)
        if hub.journal is not None:
            return (await self._spool(session, [payload]))[0]  # type: ignore[no-any-return]
        if not session.has_room():
            await wait_for_room(self, session, timeout)
            session = self._session(hub)
        receipt: Any = hub.send(session, payload)
        self._update()
        return receipt  # type: ignore[no-any-return]

    async def end(self) -> None:
        """Send the END mark: the server gets all that was sent before, says what it still has to say,
        and the link closes. Nothing can be sent after it."""
        hub = self._running()
        hub.end(self._session(hub))
        self._update()


class ClientP2M(Pushing, Client, Generic[T]):
    """Many to one: pushes messages to a `ServerP2M`. It only sends; it has no mailbox.

    ``blocking=True``: each `send` connects, sends, waits until the server has the message, closes.
    ``blocking=False``: that happens in the background; `send` never raises for the network, errors come
    through callbacks (`EventKind.ERROR`) and receipts. ``linger``: seconds the connection is kept for
    the next send.
    """

    _pattern = P2M

    def __init__(
        self,
        address: str | tuple[str, int],
        format: FormatLike[T, object] = BYTES,  # type: ignore[assignment]
        *,
        blocking: bool = True,
        linger: float = 0.0,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        store: StorePath = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
    ) -> None:
        self._set_up(blocking, linger)
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow="block",
            store=store,
            name=name,
            ssl=ssl,
            secret=secret,
            connect_timeout=connect_timeout,
            reconnect=reconnect,
        )

    async def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message.

        Blocking: returns its receipt when the server has it (over a plain framing: when it was handed
        to the network); raises what went wrong, or `DeadlineExceeded` after ``timeout`` seconds.
        Non-blocking: returns at once; only a full send window makes it wait, up to ``timeout``
        (`MailboxFull`).
        """
        payload = self._payload(data)
        hub = await self._started_hub()
        if hub.journal is not None:
            return (await self._spool(hub.current(self._now()), [payload]))[0]  # type: ignore[no-any-return]
        if not self._blocking:
            session = hub.current(self._now())
            if not session.has_room():
                await wait_for_room(self, session, timeout)
                session = hub.current(self._now())
            queued: Any = session.send(payload)
            self.driver.write_later(session)
            return queued  # type: ignore[no-any-return]
        deadline = NEVER if timeout is None else self._now() + timeout
        session = self._begin(hub)
        receipt: Any = hub.send(session, payload)
        await self._deliver(session, deadline)
        if receipt.error is not None:
            raise receipt.error
        return receipt  # type: ignore[no-any-return]

    async def _deliver(self, session: Session, deadline: float) -> None:
        """Wait until the server has everything of this session."""
        hub, driver = self._client_hub(), self.driver
        is_done = self._is_delivered
        try:
            while not is_done(session := session.latest()) and session.error is None:
                self._hurry(hub, session)
                if not await driver.wait(session.box, self._changes(session), deadline):
                    hub.close_session(session, self._too_late(session))
        except BaseException:
            if not self._linger:
                hub.close_session(session, PeerLost("the send was interrupted"))
            driver.settle()
            raise
        driver.settle()
        self._raise_failure(session)

    def _changes(self, session: Session) -> Callable[[], bool]:
        return lambda: self._is_delivered(session) or session.error is not None

    async def send_many(self, iterable: Iterable[T] | AsyncIterable[T], timeout: float | None = None) -> int:
        """Send many messages over one connection; returns how many. Takes async iterables as well.

        Blocking: returns when the server has all of them, raises what went wrong with the first that
        failed. Non-blocking: returns when all are queued. ``timeout`` in seconds, for all of it
        (`DeadlineExceeded`).
        """
        deadline = NEVER if timeout is None else self._now() + timeout
        if self._store_path is not None:
            return await self._spool_many(iterable)
        count = 0
        session: Session | None = None
        try:
            async for values in _chunks(iterable):
                payloads = self._payloads(values)
                while payloads:
                    session = await self._sender_with_room(session, deadline)
                    queued = session.send_all(payloads)
                    count += queued
                    payloads = payloads[queued:]
                assert session is not None
                self._running().flush_soon(session)
                self._update()
            if session is not None and self._blocking:
                await self._deliver(session, deadline)
        except BaseException:
            if session is not None and self._blocking and not self._linger:
                self._give_up(session)
            raise
        return count

    async def _spool_many(self, iterable: Iterable[T] | AsyncIterable[T]) -> int:
        count, bulk = 0, Bulk()
        async for values in _chunks(iterable):
            for value in values:
                if bulk.add(self._payload(value)):
                    count += await self._spool_bulk(bulk)
                    bulk = Bulk()
        return count + await self._spool_bulk(bulk)

    async def _spool_bulk(self, bulk: Bulk) -> int:
        if bulk.payloads:
            session = (await self._started_hub()).current(self._now())
            await self._spool(session, bulk.payloads, with_receipts=False)
        return len(bulk.payloads)

    async def _sender_with_room(self, session: Session | None, deadline: float) -> Session:
        hub = self._client_hub()
        sender = self._sender(hub, session)
        while not sender.has_room():
            hub.flush_soon(sender)
            self._update()
            timeout = None if deadline == NEVER else max(0.0, deadline - self._now())
            try:
                await wait_for_room(self, sender, timeout)
            except MailboxFull as error:
                raise DeadlineExceeded(str(error)) from error
            sender = self._sender(hub, sender)
        return sender

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has everything that was sent. `DeadlineExceeded` after ``timeout`` seconds.

        What has failed meanwhile is not waited for, and not raised here: see callbacks and receipts.
        """
        deadline = NEVER if timeout is None else self._now() + timeout
        hub = self._hub
        if hub is None:
            return
        self._hurry_all(hub)
        while session := self._unsettled(hub):
            if not await self.driver.wait(session.box, self._is_settled(session), deadline):
                raise self._not_flushed(session)


class ClientAR(Asking, Client, Receiving[T, K_co]):
    """Ask - response: asks a `ServerAR`. Each ask has a connection of its own, unless ``keep_alive``."""

    _pattern = AR

    def __init__(
        self,
        address: str | tuple[str, int],
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        keep_alive: bool = False,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        name: str | None = None,
        ssl: SSLContext | None = None,
        secret: Secret | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
    ) -> None:
        self._keep_alive = keep_alive
        self._resumes = keep_alive
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow="block",
            name=name,
            ssl=ssl,
            secret=secret,
            connect_timeout=connect_timeout,
            reconnect=reconnect,
        )

    async def ask(self, data: T, timeout: float | None = 30.0) -> T:
        """Ask, and wait for the answer.

        Raises `AnswerError` when the server's handler failed, `DeadlineExceeded` after ``timeout``
        seconds (the server is told, and stops caring), `PeerLost` at once when the server dies,
        `ConnectFailed` when it is not there. The next ask just works. An ask is never executed twice.
        """
        payload = self._payload(data)
        deadline = None if timeout is None else self._now() + timeout
        hub = self._asking_hub(timeout)
        ask = self._begin_ask(hub, deadline, to_mailbox=False)
        try:
            hub.asks.add(ask, payload, False, deadline)
            self._launch(hub, ask)
            await self._wait_for_answer(ask, deadline)
        finally:
            if not ask.is_done:
                self._cancel(hub, ask)
        value: T = self._outcome(ask, timeout)
        return value

    async def ask_many(self, iterable: Iterable[T] | AsyncIterable[T], timeout: float | None = 30.0) -> T:
        """One ask made of several messages, sent as the iterable yields them; one answer."""
        if self._plain is not None:
            raise StateError("over a plain framing an ask is one message: use ask()")
        deadline = None if timeout is None else self._now() + timeout
        hub = self._asking_hub(timeout)
        ask = self._begin_ask(hub, deadline, to_mailbox=False)
        try:
            async for values in _chunks(iterable, 1):
                if ask.is_done:
                    break
                hub.asks.add(ask, self._payload(values[0]), True, deadline)
                if not ask.session.has_room():
                    left = None if deadline is None else max(0.0, deadline - self._now())
                    await wait_for_room(self, ask.session, left)
                self._update()
            if not ask.is_done:
                hub.asks.finish(ask)
                self._launch(hub, ask)
            await self._wait_for_answer(ask, deadline)
        finally:
            if not ask.is_done:
                self._cancel(hub, ask)
        value: T = self._outcome(ask, timeout)
        return value

    def _asking_hub(self, timeout: float | None) -> ClientHub:
        hub = self._client_hub()
        if self._in_callback() and timeout is None:
            raise StateError("inside a callback an ask needs a timeout")
        return hub

    async def _wait_for_answer(self, ask: Ask, deadline: float | None) -> None:
        await self.driver.wait(ask.box, lambda: ask.is_done, NEVER if deadline is None else deadline)
        if not ask.is_done and self._is_stopping:
            raise self._not_running()

    async def send(self, data: T) -> Receipt:
        """Ask without waiting: the answer lands in the mailbox and rings the bell.

        When it failed, the failure takes the answer's place: `data_get` raises it, and
        ``message_get().receipt`` says whose answer it is.
        """
        receipt: Any = self._send_ask(self._client_hub(), self._payload(data))
        return receipt  # type: ignore[no-any-return]


async def _chunks(iterable: Iterable[T] | AsyncIterable[T], size: int = CHUNK) -> AsyncIterator[list[T]]:
    """What an iterable yields, many at a time; an async one gives each at once: it may take its time."""
    if isinstance(iterable, AsyncIterable):
        async for value in iterable:
            yield [value]
        return
    values = iter(iterable)
    while chunk := list(islice(values, size)):
        yield chunk

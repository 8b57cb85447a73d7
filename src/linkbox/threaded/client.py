"""The three clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

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
from linkbox.threaded.endpoint import Endpoint
from linkbox.threaded.interrupts import interrupts, wait_for
from linkbox.threaded.mailbox import Receiving
from linkbox.threaded.receipts import Receipt
from linkbox.threaded.server import wait_for_room

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

    def start(self: C) -> C:
        """Get ready; a connection is made by the first send or ask. Returns self."""
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
            if self._hub is None:
                hub = self._make_hub()
                self._open(hub)
                self._on_start(hub)

    def _client_hub(self) -> ClientHub:
        """The hub; starts what was never started. Under the lock."""
        if self._hub is None and not self._is_fork:
            self.lock.release()
            try:
                self._start()
            finally:
                self.lock.acquire()
        hub = self._running()
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

    def start(self, wait: bool = True) -> ClientP2P[T, K_co]:
        """Connect. Returns self when the link is up; with ``wait=False`` at once.

        `ConnectFailed` when nobody is there within ``connect_timeout`` (with ``reconnect=None``: at the
        first try), `Refused` when the server says no.
        """
        super()._start()
        if wait:
            with self.lock:
                hub = self._running()
                deadline = NEVER if hub.journal is None else monotonic() + self._connect_timeout
                self.transport.engine.wait(hub.box, lambda: self._is_decided(self._session(hub)), deadline)
                error = self._why_down(self._session(hub))
            if error is not None:
                self.stop()
                raise error
        return self

    def _start(self) -> None:
        with self.lock:
            is_started = self._hub is not None and not self._is_stopping
        self.start(wait=not is_started)

    def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. Raises `FormatError` or `TooLarge` for what cannot be sent, `StateError` before the
        first connection and after the end.
        """
        if interrupts.pending:
            interrupts.run_pending()
        payload = self._payload(data)
        with self.lock:
            hub = self._running()
            session = self._sending(hub)
            if hub.journal is not None:
                return self._spool(session, [payload])[0]  # type: ignore[no-any-return]
            if not session.has_room():
                wait_for_room(self, session, timeout)
                session = self._session(hub)
            receipt: Any = hub.send(session, payload)
            self.transport.settle()
        return receipt  # type: ignore[no-any-return]

    def end(self) -> None:
        """Send the END mark: the server gets all that was sent before, says what it still has to say,
        and the link closes. Nothing can be sent after it."""
        with self.lock:
            hub = self._running()
            hub.end(self._session(hub))
            self.transport.update()


class ClientP2M(Pushing, Client, Generic[T]):
    """Many to one: pushes messages to a `ServerP2M`. It only sends; it has no mailbox.

    ``blocking=True``: each `send` connects, sends, waits until the server has the message, closes.
    ``blocking=False``: a thread of its own does that; `send` never raises for the network, errors come
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

    def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message.

        Blocking: returns its receipt when the server has it (over a plain framing: when it was handed
        to the network); raises what went wrong, or `DeadlineExceeded` after ``timeout`` seconds.
        Non-blocking: returns at once; only a full send window makes it wait, up to ``timeout``
        (`MailboxFull`).
        """
        if interrupts.pending:
            interrupts.run_pending()
        payload = self._payload(data)
        if self._store_path is not None:
            with self.lock:
                return self._spool(self._client_hub().current(monotonic()), [payload])[0]  # type: ignore[no-any-return]
        if not self._blocking:
            return self._queue(payload, timeout)
        deadline = NEVER if timeout is None else monotonic() + timeout
        with self.lock:
            session = self._begin(self._client_hub())
            receipt: Any = self._running().send(session, payload)
            self._deliver(session, deadline)
        if receipt.error is not None:
            raise receipt.error
        return receipt  # type: ignore[no-any-return]

    def _queue(self, payload: bytes, timeout: float | None) -> Receipt:
        with self.lock:
            hub = self._client_hub()
            session = hub.current(monotonic())
            if not session.has_room():
                wait_for_room(self, session, timeout)
                session = hub.current(monotonic())
            receipt: Any = session.send(payload)
            self.transport.write_later(session)
        return receipt  # type: ignore[no-any-return]

    def _deliver(self, session: Session, deadline: float) -> None:
        """Wait until the server has everything of this session. Under the lock."""
        hub, engine = self._client_hub(), self.transport.engine
        is_done = self._is_delivered
        try:
            while not is_done(session := session.latest()) and session.error is None:
                self._hurry(hub, session)
                if not engine.wait(session.box, self._changes(session, is_done), deadline):
                    hub.close_session(session, self._too_late(session))
        except BaseException:
            if not self._linger:
                hub.close_session(session, PeerLost("the send was interrupted"))
            self.transport.settle()
            raise
        self.transport.settle()
        self._raise_failure(session)

    def _changes(self, session: Session, is_done: Callable[[Session], bool]) -> Callable[[], bool]:
        return lambda: is_done(session) or session.error is not None

    def send_many(self, iterable: Iterable[T], timeout: float | None = None) -> int:
        """Send many messages over one connection; returns how many.

        Blocking: returns when the server has all of them, raises what went wrong with the first that
        failed. Non-blocking: returns when all are queued. ``timeout`` in seconds, for all of it
        (`DeadlineExceeded`).
        """
        deadline = NEVER if timeout is None else monotonic() + timeout
        values = iter(iterable)
        if self._store_path is not None:
            return self._spool_many(values)
        count = 0
        session: Session | None = None
        try:
            while payloads := self._payloads(list(islice(values, CHUNK))):
                with self.lock:
                    while payloads:
                        session = self._sender_with_room(session, deadline)
                        queued = session.send_all(payloads)
                        count += queued
                        payloads = payloads[queued:]
                    assert session is not None
                    self._running().flush_soon(session)
                    self.transport.update()
            if session is not None and self._blocking:
                with self.lock:
                    self._deliver(session, deadline)
        except BaseException:
            if session is not None and self._blocking and not self._linger:
                self._give_up(session)
            raise
        return count

    def _spool_many(self, values: Iterator[T]) -> int:
        count, bulk = 0, Bulk()
        for value in values:
            if bulk.add(self._payload(value)):
                count += self._spool_bulk(bulk)
                bulk = Bulk()
        return count + self._spool_bulk(bulk)

    def _spool_bulk(self, bulk: Bulk) -> int:
        if bulk.payloads:
            with self.lock:
                self._spool(self._client_hub().current(monotonic()), bulk.payloads, with_receipts=False)
        return len(bulk.payloads)

    def _sender_with_room(self, session: Session | None, deadline: float) -> Session:
        hub = self._client_hub()
        sender = self._sender(hub, session)
        while not sender.has_room():
            self._wait_for_room(sender, deadline)
            sender = self._sender(hub, sender)
        return sender

    def _wait_for_room(self, session: Session, deadline: float) -> None:
        self._running().flush_soon(session)
        self.transport.update()
        timeout = None if deadline == NEVER else max(0.0, deadline - monotonic())
        try:
            wait_for_room(self, session, timeout)
        except MailboxFull as error:
            raise DeadlineExceeded(str(error)) from error

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has everything that was sent. `DeadlineExceeded` after ``timeout`` seconds.

        What has failed meanwhile is not waited for, and not raised here: see callbacks and receipts.
        """
        deadline = NEVER if timeout is None else monotonic() + timeout
        with self.lock:
            hub = self._hub
            if hub is None:
                return
            self._hurry_all(hub)
            while session := self._unsettled(hub):
                if not self.transport.engine.wait(session.box, self._is_settled(session), deadline):
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

    def ask(self, data: T, timeout: float | None = 30.0) -> T:
        """Ask, and wait for the answer.

        Raises `AnswerError` when the server's handler failed, `DeadlineExceeded` after ``timeout``
        seconds (the server is told, and stops caring), `PeerLost` at once when the server dies,
        `ConnectFailed` when it is not there. The next ask just works. An ask is never executed twice.
        """
        return self._ask([self._payload(data)], timeout, is_one=True)

    def ask_many(self, iterable: Iterable[T], timeout: float | None = 30.0) -> T:
        """One ask made of several messages, sent as the iterable yields them; one answer."""
        if self._plain is not None:
            raise StateError("over a plain framing an ask is one message: use ask()")
        return self._ask(map(self._payload, iterable), timeout, is_one=False)

    def _ask(self, payloads: Iterable[bytes], timeout: float | None, is_one: bool) -> T:
        if interrupts.pending:
            interrupts.run_pending()
        deadline = None if timeout is None else monotonic() + timeout
        ask: Ask | None = None
        with self.lock:
            hub = self._client_hub()
            if self._in_callback() and timeout is None:
                raise StateError("inside a callback an ask needs a timeout")
            try:
                if is_one:
                    ask = self._begin_ask(hub, deadline, to_mailbox=False)
                    for payload in payloads:
                        hub.asks.add(ask, payload, False, deadline)
                    self._launch(hub, ask)
                else:
                    ask = self._ask_in_parts(hub, payloads, deadline)
                self._wait_for_answer(hub, ask, deadline)
            finally:
                if ask is not None and not ask.is_done:
                    self._cancel(hub, ask)
        value: T = self._outcome(ask, timeout)
        return value

    def _ask_in_parts(self, hub: ClientHub, payloads: Iterable[bytes], deadline: float | None) -> Ask:
        """Send the messages as they come: the iterable is user code, so not under the lock."""
        ask = self._begin_ask(hub, deadline, to_mailbox=False)
        self.transport.update()
        iterator = iter(payloads)
        try:
            while True:
                self.lock.release()
                try:
                    payload = next(iterator, None)
                finally:
                    self.lock.acquire()
                if payload is None or ask.is_done:
                    break
                hub.asks.add(ask, payload, True, deadline)
                if not ask.session.has_room():
                    wait_for_room(
                        self, ask.session, None if deadline is None else max(0.0, deadline - monotonic())
                    )
                self.transport.update()
        except BaseException:
            self._cancel(hub, ask)
            raise
        if not ask.is_done:
            hub.asks.finish(ask)
            self._launch(hub, ask)
        return ask

    def _wait_for_answer(self, hub: ClientHub, ask: Ask, deadline: float | None) -> None:
        self.transport.engine.wait(ask.box, lambda: ask.is_done, NEVER if deadline is None else deadline)
        if not ask.is_done and self._is_stopping:
            raise self._not_running()

    def send(self, data: T) -> Receipt:
        """Ask without waiting: the answer lands in the mailbox and rings the bell.

        When it failed, the failure takes the answer's place: `data_get` raises it, and
        ``message_get().receipt`` says whose answer it is.
        """
        if interrupts.pending:
            interrupts.run_pending()
        payload = self._payload(data)
        with self.lock:
            receipt: Any = self._send_ask(self._client_hub(), payload)
        return receipt  # type: ignore[no-any-return]

"""The three clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from linkbox.address import Address
from linkbox.core.asks import Ask
from linkbox.core.backoff import Backoff
from linkbox.core.client import Answer, ClientHub
from linkbox.core.framings import Framing, Linked
from linkbox.core.hub import Hub
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.session import NEVER, Session
from linkbox.errors import DeadlineExceeded, MailboxFull, PeerLost, StateError
from linkbox.formats import Bytes, FormatLike, K_co, T
from linkbox.limits import Limits
from linkbox.threaded.endpoint import Endpoint, Overflow, random_float
from linkbox.threaded.listening import check_scheme
from linkbox.threaded.mailbox import Receiving
from linkbox.threaded.receipts import Receipt
from linkbox.threaded.server import wait_for_room

C = TypeVar("C", bound="Client")

# The default of format=. It must keep its type: type checkers infer the endpoint's from it.
BYTES: Final = Bytes()
CHUNK = 512
"""Messages that ``send_many`` hands to the core at a time."""


class Client(Endpoint):
    """Abstract base of the clients: connects, and comes back after a drop."""

    _resumes = True

    def __init__(
        self,
        address: str | tuple[str, int],
        format: Any,
        *,
        framing: Framing | type[Framing],
        limits: Limits | None,
        overflow: str,
        name: str | None,
        connect_timeout: float,
        reconnect: Backoff | None,
    ) -> None:
        if type(self) is Client:
            raise TypeError("Client is abstract: use ClientP2P, ClientP2M or ClientAR")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout={connect_timeout!r}: seconds above 0 are needed")
        parsed = Address.parse(address)
        check_scheme(parsed)
        super().__init__(parsed, format, framing, limits, overflow, name)
        self._connect_timeout = connect_timeout
        self._reconnect = reconnect

    def start(self: C) -> C:
        """Get ready; a connection is made by the first send or ask. Returns self."""
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
            if self._hub is None:
                hub = ClientHub(
                    self._settings(),
                    self._mailbox,
                    self.address,
                    self._reconnect,
                    self._connect_timeout,
                    random_float,
                    self._resumes and self._plain is None,
                )
                self._open(hub)
                self._on_start(hub)

    def _on_start(self, hub: ClientHub) -> None:
        """The rest of starting, under the lock."""

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


class ClientP2P(Client, Receiving[T, K_co]):
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
        name: str | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
    ) -> None:
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow=overflow,
            name=name,
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
                session = self._session(hub)
                transport = self.transport
                transport.engine.wait(session.box, lambda: session.established or session.error is not None)
                error = session.error
            if error is not None and not session.established:
                self.stop()
                raise error
        return self

    def _start(self) -> None:
        self.start()

    def _on_start(self, hub: ClientHub) -> None:
        hub.session = hub.begin(monotonic())
        self.transport.update()

    def _session(self, hub: Hub) -> Session:
        assert isinstance(hub, ClientHub) and hub.session is not None
        return hub.session

    def _wait_is_vain(self, hub: Hub) -> bool:
        return hub.stopping or self._session(hub).error is not None

    def _raise_if_vain(self, hub: Hub, count: int) -> None:
        error = self._session(hub).error
        if not hub.peers() and error is not None:
            raise error
        super()._raise_if_vain(hub, count)

    def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message; returns its `Receipt` at once, unless the send window is full.

        Then it waits for room, up to ``timeout`` seconds (`MailboxFull`); inside a callback it does not
        wait at all. Raises `FormatError` or `TooLarge` for what cannot be sent, `StateError` before the
        first connection and after the end.
        """
        payload = self._payload(data)
        with self.lock:
            hub = self._running()
            session = self._session(hub)
            if not session.established and session.error is None:
                raise StateError(f"{self} is not connected yet; call wait_connected() first")
            if not session.has_room():
                wait_for_room(self, session, timeout)
                session = self._session(hub)
            receipt: Any = hub.send(session, payload)
            self.transport.update()
        return receipt  # type: ignore[no-any-return]

    def end(self) -> None:
        """Send the END mark: the server gets all that was sent before, says what it still has to say,
        and the link closes. Nothing can be sent after it."""
        with self.lock:
            hub = self._running()
            hub.end(self._session(hub))
            self.transport.update()


class ClientP2M(Client, Generic[T]):
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
        name: str | None = None,
        connect_timeout: float = 10.0,
        reconnect: Backoff | None = Backoff(),
    ) -> None:
        if not linger >= 0:
            raise ValueError(f"linger={linger!r}: seconds from 0 are needed")
        super().__init__(
            address,
            format,
            framing=framing,
            limits=limits,
            overflow="block",
            name=name,
            connect_timeout=connect_timeout,
            reconnect=reconnect,
        )
        self._blocking = blocking
        self._linger = linger

    def _on_start(self, hub: ClientHub) -> None:
        if not self._blocking or self._linger:
            hub.linger = self._linger

    def send(self, data: T, timeout: float | None = None) -> Receipt:
        """Send one message.

        Blocking: returns its receipt when the server has it (over a plain framing: when it was handed
        to the network); raises what went wrong, or `DeadlineExceeded` after ``timeout`` seconds.
        Non-blocking: returns at once; only a full send window makes it wait, up to ``timeout``
        (`MailboxFull`).
        """
        payload = self._payload(data)
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

    def _begin(self, hub: ClientHub) -> Session:
        return hub.current(monotonic()) if self._linger else hub.begin(monotonic())

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
        hub, engine = self._running(), self.transport.engine
        is_done = self._linger_done if self._linger else self._end_done
        try:
            while not is_done(session := session.latest()) and session.error is None:
                if not self._linger:
                    hub.end(session)
                else:
                    hub.acknowledge_now(session)
                self.transport.update()
                if not engine.wait(session.box, self._changes(session, is_done), deadline):
                    why = "stopped" if self._is_stopping else "out of time"
                    hub.close_session(
                        session, DeadlineExceeded(f"{why} before {session.peer} had everything")
                    )
        except BaseException:
            if not self._linger:
                hub.close_session(session, PeerLost("the send was interrupted"))
            self.transport.settle()
            raise
        self.transport.settle()
        self._raise_failure(session)

    def _changes(self, session: Session, is_done: Callable[[Session], bool]) -> Callable[[], bool]:
        return lambda: is_done(session) or session.error is not None

    def _raise_failure(self, session: Session) -> None:
        """Raise why the first message of this session failed, if any did."""
        if session.first_failure is not None:
            raise session.first_failure

    def _end_done(self, session: Session) -> bool:
        return session.end_acked

    def _linger_done(self, session: Session) -> bool:
        return not session.held

    def send_many(self, iterable: Iterable[T], timeout: float | None = None) -> int:
        """Send many messages over one connection; returns how many.

        Blocking: returns when the server has all of them, raises what went wrong with the first that
        failed. Non-blocking: returns when all are queued. ``timeout`` in seconds, for all of it
        (`DeadlineExceeded`).
        """
        deadline = NEVER if timeout is None else monotonic() + timeout
        values = iter(iterable)
        count = 0
        session: Session | None = None
        try:
            while payloads := self._payloads(list(islice(values, CHUNK))):
                with self.lock:
                    while payloads:
                        session = self._sender(session, deadline)
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

    def _sender(self, session: Session | None, deadline: float) -> Session:
        """The session for the next message, with room for it; a new one where the old one has ended."""
        hub = self._client_hub()
        while True:
            if session is not None:
                session = session.latest()
                if self._blocking:
                    self._raise_failure(session)
            if session is None or session.error is not None or session.ending:
                session = self._begin(hub) if self._blocking else hub.current(monotonic())
            if session.has_room():
                return session
            self._wait_for_room(session, deadline)

    def _wait_for_room(self, session: Session, deadline: float) -> None:
        self._running().flush_soon(session)
        self.transport.update()
        timeout = None if deadline == NEVER else max(0.0, deadline - monotonic())
        try:
            wait_for_room(self, session, timeout)
        except MailboxFull as error:
            raise DeadlineExceeded(str(error)) from error

    def _give_up(self, session: Session) -> None:
        with self.lock:
            if self._hub is not None and session.error is None:
                self._hub.close_session(session, PeerLost("sending was given up"))
                self.transport.settle()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has everything that was sent. `DeadlineExceeded` after ``timeout`` seconds.

        What has failed meanwhile is not waited for, and not raised here: see callbacks and receipts.
        """
        deadline = NEVER if timeout is None else monotonic() + timeout
        with self.lock:
            hub = self._hub
            if hub is None:
                return
            assert isinstance(hub, ClientHub)
            for session in list(hub.sessions.values()):
                hub.acknowledge_now(session)
            self.transport.update()
            while held := [session for session in hub.sessions.values() if session.held]:
                session = held[0]
                if not self.transport.engine.wait(session.box, self._is_settled(session), deadline):
                    raise DeadlineExceeded(
                        f"{session.held} messages to {self.address} are not acknowledged yet"
                    )

    def _is_settled(self, session: Session) -> Callable[[], bool]:
        return lambda: not session.held or session.error is not None


class ClientAR(Client, Receiving[T, K_co]):
    """Ask - response: asks a `ServerAR`. Each ask has a connection of its own, unless ``keep_alive``."""

    _pattern = AR
    _opens = True

    def __init__(
        self,
        address: str | tuple[str, int],
        format: FormatLike[T, K_co] = BYTES,  # type: ignore[assignment]
        *,
        keep_alive: bool = False,
        framing: Framing | type[Framing] = Linked(),
        limits: Limits | None = None,
        name: str | None = None,
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
        deadline = None if timeout is None else monotonic() + timeout
        ask: Ask | None = None
        with self.lock:
            hub = self._client_hub()
            if self._in_callback() and timeout is None:
                raise StateError("inside a callback an ask needs a timeout")
            try:
                if is_one:
                    ask = self._begin(hub, deadline, to_mailbox=False)
                    for payload in payloads:
                        hub.asks.add(ask, payload, False, deadline)
                    self._launch(hub, ask)
                else:
                    ask = self._ask_in_parts(hub, payloads, deadline)
                self._wait_for_answer(hub, ask, deadline)
            finally:
                if ask is not None and not ask.is_done:
                    self._cancel(hub, ask)
        if ask.error is not None:
            raise ask.error
        if not ask.is_done:
            raise DeadlineExceeded(f"no answer from {self.address} within {timeout:g} s")
        value: T = ask.value
        return value

    def _ask_in_parts(self, hub: ClientHub, payloads: Iterable[bytes], deadline: float | None) -> Ask:
        """Send the messages as they come: the iterable is user code, so not under the lock."""
        ask = self._begin(hub, deadline, to_mailbox=False, is_whole=False)
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

    def _begin(self, hub: ClientHub, deadline: float | None, to_mailbox: bool, is_whole: bool = True) -> Ask:
        """A session, and an ask on it. Over a plain framing one ask at a time has a connection."""
        now = monotonic()
        if self._keep_alive:
            session = hub.current(now)
            if self._plain is not None and hub.asks.is_busy(session):
                session = hub.idle_session() or hub.begin(now)
            if len(hub.asks.waiting) + self._mailbox.count >= self._limits.asks:
                raise MailboxFull(
                    f"{self._limits.asks} asks wait for their answers, or to be taken: no more for now"
                )
        else:
            session = hub.begin(now)
        if deadline is not None and not self._keep_alive:
            session.connect_by = min(session.connect_by, deadline)
        return hub.asks.begin(session, to_mailbox)

    def _launch(self, hub: ClientHub, ask: Ask) -> None:
        """The ask is whole: off with it. Its own connection needs nothing more from us."""
        session = ask.session
        is_raw = self._framing.name == "raw"
        if (not self._keep_alive and (self._plain is None or is_raw)) or is_raw:
            hub.end(session)
        self.transport.update()

    def _wait_for_answer(self, hub: ClientHub, ask: Ask, deadline: float | None) -> None:
        self.transport.engine.wait(ask.box, lambda: ask.is_done, NEVER if deadline is None else deadline)
        if not ask.is_done and self._is_stopping:
            raise self._not_running()

    def _cancel(self, hub: ClientHub, ask: Ask) -> None:
        """Nobody waits any more. Under the lock."""
        if self._hub is not hub:
            return
        hub.asks.cancel(ask, "the asker gave up")
        if not self._keep_alive and ask.session.error is None:
            hub.close_session(ask.session, None)
        self.transport.update()

    def send(self, data: T) -> Receipt:
        """Ask without waiting: the answer lands in the mailbox and rings the bell.

        When it failed, the failure takes the answer's place: `data_get` raises it, and
        ``message_get().receipt`` says whose answer it is.
        """
        payload = self._payload(data)
        with self.lock:
            hub = self._client_hub()
            ask = self._begin(hub, None, to_mailbox=True)
            hub.asks.add(ask, payload, False, None)
            receipt: Any = ask.receipt
            self._launch(hub, ask)
        return receipt  # type: ignore[no-any-return]

    def _open_item(self, item: Any) -> T:
        assert isinstance(item, Answer)
        if item.error is not None:
            raise item.error
        value: T = item.value  # type: ignore[assignment]
        return value

"""What all six endpoints share: life cycle, callbacks, peers, statistics."""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar

from linkbox.core.framings import Framing, PlainFraming, as_framing
from linkbox.core.hub import Hub
from linkbox.core.mailbox import Box, BytesMailbox, MailboxState
from linkbox.core.patterns import Pattern
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Counters, Settings
from linkbox.core.snapshot import statistics
from linkbox.errors import DeadlineExceeded, EndOfData, FormatError, StateError, TooLarge
from linkbox.events import Callback, EventKind, Peer, Stage, Statistics
from linkbox.formats import Bytes, Json, MsgPack, Typed, as_format
from linkbox.limits import Limits
from linkbox.threaded.callbacks import Callbacks, Dispatcher
from linkbox.threaded.receipts import Receipt
from linkbox.threaded.transport import Transport

log = logging.getLogger("linkbox")

E = TypeVar("E", bound="Endpoint")
F = TypeVar("F", bound=Callback)
Overflow = Literal["block", "drop_oldest", "drop_newest", "error"]

_started: weakref.WeakSet[Endpoint] = weakref.WeakSet()
_INLINE = (Bytes, Json, Typed, MsgPack)
"""Formats that the engine may decode with itself; others are user code, and get a thread."""


class Endpoint:
    """Base of all endpoints. Not generic: nothing here depends on the type of the messages."""

    _pattern: Pattern

    def __init__(
        self, address: Any, format: Any, framing: Any, limits: Limits | None, overflow: str, name: str | None
    ) -> None:
        self._format = as_format(format)
        self._framing: Framing = as_framing(framing)
        self._limits = limits or Limits()
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._plain = self._framing if isinstance(self._framing, PlainFraming) else None
        if self._plain is not None:
            self._plain.decoder(self._limits.message)  # raises when it cannot hold one message
        self._is_bytes = isinstance(self._format, Bytes)
        self._as_it_is = self._is_bytes and self._plain is None
        self._encode_value = self._format.encode
        self.lock = threading.RLock()
        """Held around every call into the core. Not for you."""
        self._mailbox = self._make_mailbox(overflow)
        self._callbacks = Callbacks()
        self._counters = Counters()
        self._transport: Transport | None = None
        self._hub: Hub | None = None
        self._dispatcher: Dispatcher | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._stopped.set()
        self._closed = threading.Event()
        """Everything is closed, though our own threads may still run; see `stop`."""
        self._was_clean = True
        self._is_stopping = False
        self._is_fork = False
        self._address = address

    def _make_mailbox(self, overflow: str) -> MailboxState:
        kind = BytesMailbox if self._is_bytes and not self._pattern.asks else MailboxState
        return kind(self._limits, overflow)

    # -- life cycle -----------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The endpoint's address as a URL. A server's says the real port once it was started."""
        return str(self._address)

    @property
    def transport(self) -> Transport:
        """What carries the bytes. Not for you."""
        if self._transport is None:
            raise StateError(f"{self} is not started: call start(), or use it in a with block")
        return self._transport

    def _running(self) -> Hub:
        """The hub of a started endpoint. Under the lock."""
        hub = self._hub
        if hub is None or self._is_stopping:
            raise self._not_running()
        return hub

    def _not_running(self) -> StateError:
        if self._is_fork:
            return StateError(f"{self} belongs to the parent process; make a new one after fork")
        what = "was stopped" if self._is_stopping or self._mailbox.over is not None else "is not started"
        return StateError(f"{self} {what}: call start(), or use it in a with block")

    def _open(self, hub: Hub) -> Transport:
        """Begin a life: hub, engine, threads. Under the lock."""
        decode = None if self._is_bytes else self._format.decode
        hub.owner = self
        hub.listening = self._callbacks.kinds()
        transport = Transport(hub, self.lock, decode, self._name)
        transport.decode_later = not isinstance(self._format, _INLINE)
        self._mailbox.over = None
        self._is_stopping = False
        self._stopped.clear()
        self._hub, self._transport = hub, transport
        self._dispatcher = None
        self._threads = []
        if self._callbacks.kinds():
            self._start_dispatcher()
            self._ring_waiting(hub)  # what is left from an earlier life
        if transport.decode_later:
            self._start_thread(self._decode_loop, "decode")
        transport.engine.start()
        transport.update()
        _started.add(self)
        return transport

    def _settings(self) -> Settings:
        return Settings(
            pattern=self._pattern,
            format_name=self._format.name,
            framing=self._framing,
            limits=self._limits,
            name=self._name,
            receipts=Receipt,
            entropy=os.urandom,
            wall=time.time() - monotonic(),
            counters=self._counters,
        )

    def _start_thread(self, target: Callable[[], None], what: str) -> None:
        thread = threading.Thread(target=target, name=f"linkbox {what} {self._name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _decode_loop(self) -> None:
        """Decode with a format that is user code, away from whoever moves bytes."""
        transport = self.transport
        waiting = transport.undecoded
        while True:
            with self.lock:
                if not transport.engine.wait(transport.undecoded_box, lambda: waiting, is_service=True):
                    return
                arrivals = list(waiting)
                waiting.clear()
            transport.decode(arrivals)

    def stop(self, timeout: float = 10.0) -> bool:
        """Send what is queued, end in order, close. Returns whether all that was sent was acknowledged.

        From any thread, also from inside a callback, any number of times. Always returns, after
        ``timeout`` seconds at the latest, and wakes everyone who waits on this endpoint. What is in the
        mailbox stays readable, and ``start()`` may follow.
        """
        deadline = monotonic() + timeout
        with self.lock:
            hub, transport = self._hub, self._transport
            if hub is None or transport is None:
                return True
            is_first = not self._is_stopping
            self._is_stopping = True
        if not is_first:
            # Who stops first waits for our own threads; a callback among them must not wait for it.
            ours = self._in_callback() or threading.current_thread() in self._threads
            return (self._closed if ours else self._stopped).wait(timeout) and self._was_clean
        self._closed.clear()
        self._was_clean = False
        try:
            with self.lock:
                done = self._end_all(hub, transport, deadline)
                self._was_clean = done and not hub.undelivered
        finally:  # also when Ctrl-C strikes: nobody may be left waiting
            with self.lock:
                self._close_all(hub, transport)
            self._closed.set()
            self._join(transport, deadline)
            with self.lock:
                self._hub = self._transport = None
                self._is_stopping = False
                self._on_stopped()
                self._stopped.set()
        return self._was_clean

    def _on_stopped(self) -> None:
        """Give back what is left. Under the lock."""

    def _end_all(self, hub: Hub, transport: Transport, deadline: float) -> bool:
        """The ordered end. Under the lock. Returns whether it came to its end in time."""
        transport.stop_listening()
        hub.shutdown(monotonic())
        transport.update()
        return transport.engine.wait(hub.box, lambda: not hub.sessions and not hub.links, deadline)

    def _close_all(self, hub: Hub, transport: Transport) -> None:
        """The end, ordered or not: whoever waits is told. Under the lock."""
        hub.abort()
        if self._mailbox.over is None:
            self._mailbox.over = EndOfData(f"{self} was stopped")
        hub.changed += (self._mailbox.end_box, hub.box)
        transport.settle()
        if self._dispatcher is not None:
            self._dispatcher.close()
        transport.close()
        _started.discard(self)

    def _join(self, transport: Transport, deadline: float) -> None:
        """Let our threads end, as long as there is time; user code in them may take longer."""
        dispatcher = self._dispatcher
        threads = [*self._threads, *([dispatcher.thread] if dispatcher is not None else [])]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))
        transport.engine.join(max(1.0, deadline - monotonic()))

    def __enter__(self: E) -> E:
        self._start()
        return self

    def _start(self) -> None:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    # -- callbacks ------------------------------------------------------------------------------------

    def add_callback(self, fn: Callback, *kinds: EventKind) -> None:
        """Call ``fn(event)`` whenever one of these happens; by default for `EventKind.DATA`.

        Callbacks of one endpoint run one at a time, on a thread of the endpoint's. A callback may call
        anything, and may raise: that is logged, and the stream goes on. Messages that are waiting when
        the first DATA callback is added ring at once.
        """
        kinds = kinds or (EventKind.DATA,)
        with self.lock:
            had_data = EventKind.DATA in self._callbacks.kinds()
            self._callbacks.add(fn, kinds)
            if self._hub is not None and self._transport is not None:
                self._hub.listening = self._callbacks.kinds()
                if self._dispatcher is None:
                    self._start_dispatcher()
                if EventKind.DATA in kinds and not had_data:
                    self._ring_waiting(self._hub)
                self._transport.settle()

    def _ring_waiting(self, hub: Hub) -> None:
        """Messages that are there already ring the bell that has just been hung up."""
        waiting = self._mailbox.count
        if waiting:
            hub.emit(EventKind.DATA, None, count=waiting)

    def _start_dispatcher(self) -> None:
        self._dispatcher = Dispatcher(self, self.transport, self._callbacks, self._name)
        self._dispatcher.start()

    def remove_callback(self, fn: Callback) -> None:
        """Call ``fn`` no more, for any kind. `ValueError` if it was not added."""
        with self.lock:
            self._callbacks.remove(fn)
            if self._hub is not None:
                self._hub.listening = self._callbacks.kinds()
                if EventKind.DATA not in self._hub.listening:
                    self._hub.forget_data_events()

    def on(self, *kinds: EventKind) -> Callable[[F], F]:
        """Decorator: ``@endpoint.on(EventKind.ERROR)``."""

        def register(fn: F) -> F:
            self.add_callback(fn, *kinds)
            return fn

        return register

    def _in_callback(self) -> bool:
        return self._dispatcher is not None and self._dispatcher.is_current()

    # -- peers and numbers ------------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        with self.lock:
            return () if self._hub is None else self._hub.peers()

    def wait_connected(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until that many peers are connected. `DeadlineExceeded` after ``timeout`` seconds."""
        deadline = NEVER if timeout is None else monotonic() + timeout
        with self.lock:
            hub = self._running()
            if self.transport.engine.wait(
                hub.box, lambda: len(hub.peers()) >= count or self._wait_is_vain(hub), deadline
            ):
                self._raise_if_vain(hub, count)
                return
            if self._is_stopping or self._hub is not hub:
                raise self._not_running()
            there = len(hub.peers())
        raise DeadlineExceeded(f"{there} of {count} peers are connected to {self} after {timeout:g} s")

    def _wait_is_vain(self, hub: Hub) -> bool:
        return hub.stopping

    def _raise_if_vain(self, hub: Hub, count: int) -> None:
        if len(hub.peers()) < count:
            raise self._not_running()

    def statistics(self) -> Statistics:
        """A snapshot of all counters, in all and for each peer that is connected."""
        with self.lock:
            return statistics(self._hub, self._counters, self._mailbox)

    # -- what the parts below need ------------------------------------------------------------------------

    def _payload(self, data: Any) -> bytes:
        """The bytes of one message, checked. In the caller's thread: its error, at once."""
        if data.__class__ is bytes and self._as_it_is and len(data) <= self._limits.message:
            return data
        return self._checked(self._encode_value(data))

    def _payloads(self, values: list[Any]) -> list[bytes]:
        """The same for many messages: mostly all are well, and one look at them together is quicker."""
        is_ready = self._is_bytes and set(map(type, values)) == {bytes}
        payloads = values if is_ready else list(map(self._encode_value, values))
        are_bytes = self._plain is None and set(map(type, payloads)) == {bytes}
        if are_bytes and max(map(len, payloads)) <= self._limits.message:
            return payloads
        return list(map(self._checked, payloads))

    def _checked(self, payload: bytes) -> bytes:
        if len(payload) > self._limits.message:
            raise TooLarge(
                f"the message has {len(payload)} bytes encoded, at most {self._limits.message} are allowed; "
                "raise Limits(message=...) on both sides"
            )
        if self._plain is not None:
            self._plain.check(payload)
        elif payload.__class__ is not bytes:
            raise FormatError(f"{self._format!r} encoded to {type(payload).__name__}, bytes are needed")
        return payload

    def wait(self, receipt: Receipt, stage: Stage, deadline: float) -> None:
        """Wait for a receipt. Not for you: use ``receipt.wait()``. Under the lock."""
        transport = self._transport
        while transport is not None:
            session = receipt.session  # a take-over by another session moves the receipt there
            is_settled = self._settles(receipt, session, stage)
            if not transport.engine.wait(session.box, is_settled, deadline) or receipt.session is session:
                return

    def _settles(self, receipt: Receipt, session: Session, stage: Stage) -> Callable[[], bool]:
        return lambda: receipt.stage >= stage or receipt.session is not session or session.error is not None

    # What taking needs (see `Receiving`).

    def _flush_acks(self) -> None:
        transport, hub = self._transport, self._hub
        if transport is not None and hub is not None:
            if hub.dirty:
                transport.settle()
            if hub.ack_due != NEVER:
                transport.engine.timers_changed()

    def _await(self, wish: Callable[[], Any], deadline: float, box: Box | None = None) -> bool:
        if self._transport is None:
            raise self._not_running()
        transport = self._transport
        holds = transport.engine.wait(box or self._mailbox.box, wish, deadline)
        if not holds and transport is not self._transport:
            raise EndOfData(f"{self} was stopped")  # and perhaps started again, meanwhile
        return holds

    def _over(self) -> Exception | None:
        over = self._mailbox.over
        if over is None and self._hub is None and not self._is_stopping:
            raise self._not_running()
        return over

    def _grow(self, count: int) -> None:
        if self._hub is not None:
            self._hub.grow(count)
            self.transport.update()

    def _default_timeout(self) -> float | None:
        return 0 if self._in_callback() else None

    # -- fork and exit ----------------------------------------------------------------------------

    def _forked(self) -> None:
        """This is the copy in a child process: it only gives back its descriptors."""
        transport = self._transport
        self.lock = threading.RLock()
        self._is_fork = True
        self._hub = self._transport = None
        self._stopped = threading.Event()
        self._stopped.set()
        self._mailbox.over = None
        self._mailbox.box.waiters.clear()
        if transport is not None:
            transport.close_copies()


def _after_fork() -> None:
    for endpoint in list(_started):
        endpoint._forked()
    _started.clear()


def _at_exit() -> None:
    for endpoint in list(_started):
        hub = endpoint._hub
        held = sum(session.held for session in hub.sessions.values()) if hub is not None else 0
        if held:
            log.warning(
                "linkbox: %s was not stopped; %d messages were not delivered or not confirmed", endpoint, held
            )


def random_float() -> float:
    """From 0 to 1; for the jitter of `Backoff`."""
    return random.random()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

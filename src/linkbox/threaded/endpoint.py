"""What the six threaded endpoints share: life cycle, callbacks, waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from linkbox.core.hub import Hub
from linkbox.core.journal import Spool
from linkbox.core.mailbox import Box
from linkbox.core.session import NEVER, Session
from linkbox.errors import DeadlineExceeded, EndOfData, StateError
from linkbox.events import Stage
from linkbox.formats import Bytes, Json, MsgPack, Typed
from linkbox.front.base import Base
from linkbox.front.life import started
from linkbox.front.storing import DISK_WAIT, accepted
from linkbox.threaded.callbacks import Dispatcher
from linkbox.threaded.interrupts import join, wait_for
from linkbox.threaded.receipts import Receipt
from linkbox.threaded.transport import Transport
from linkbox.threaded.writer import Writer

E = TypeVar("E", bound="Endpoint")

_INLINE = (Bytes, Json, Typed, MsgPack)
"""Formats that the engine may decode with itself; others are user code, and get a thread."""


class Endpoint(Base):
    """Base of the threaded endpoints."""

    _receipts = Receipt

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock: threading.RLock = threading.RLock()
        self._transport: Transport | None = None
        self._dispatcher: Dispatcher | None = None
        self._writer: Writer | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._stopped.set()
        self._closed = threading.Event()
        """Everything is closed, though our own threads may still run; see `stop`."""
        self._was_clean = True

    # -- life cycle -----------------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """What carries the bytes. Not for you."""
        if self._transport is None:
            raise StateError(f"{self} is not started: call start(), or use it in a with block")
        return self._transport

    def _update(self) -> None:
        self.transport.update()

    def _open(self, hub: Hub) -> Transport:
        """Begin a life: hub, engine, threads. Under the lock."""
        hub.owner = self
        hub.listening = self._callbacks.kinds()
        writer = store = None
        if (opening := self._opening(hub)) is not None:
            writer = Writer(self.lock, self._name)
            store, left = opening()
            try:
                self._take_up(left, hub, writer.wake)
            except BaseException:
                store.close()
                raise
        transport = Transport(hub, self.lock, self._decode(), self._name)
        transport.tls = self._tls
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
        if writer is not None and store is not None and hub.journal is not None:
            writer.start(store, hub.journal, transport.update)
        self._writer = writer
        started.add(self)
        return transport

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
            return wait_for(self._closed if ours else self._stopped, timeout) and self._was_clean
        self._closed.clear()
        self._was_clean = False
        try:
            with self.lock:
                done = self._end_all(hub, transport, deadline)
                self._was_clean = done and not hub.undelivered
        finally:  # also when Ctrl-C strikes: nobody may be left waiting
            self._close_all(hub, transport, deadline)
            self._closed.set()
            try:
                self._join(transport, deadline)
            finally:
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

    def _close_all(self, hub: Hub, transport: Transport, deadline: float) -> None:
        """The end, ordered or not: whoever waits is told."""
        with self.lock:
            self._declare_over(hub)
            transport.settle()
        try:
            if self._writer is not None:  # Before whoever waits for the disk is sent away.
                self._writer.close(max(DISK_WAIT, deadline - monotonic()))
        finally:
            with self.lock:
                if self._dispatcher is not None:
                    self._dispatcher.close()
                transport.close()
                started.discard(self)

    def _join(self, transport: Transport, deadline: float) -> None:
        """Let our threads end, as long as there is time; user code in them may take longer."""
        dispatcher = self._dispatcher
        threads = [*self._threads, *([dispatcher.thread] if dispatcher is not None else [])]
        for thread in threads:
            if thread is not threading.current_thread():
                join(thread, max(0.0, deadline - monotonic()))
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

    # -- callbacks ------------------------------------------------------------------------------------

    def _on_listening(self) -> None:
        if self._transport is not None:
            if self._dispatcher is None:
                self._start_dispatcher()
            self._transport.settle()

    def _start_dispatcher(self) -> None:
        self._dispatcher = Dispatcher(self, self.transport, self._callbacks, self._name)
        self._dispatcher.start()

    def _in_callback(self) -> bool:
        return self._dispatcher is not None and self._dispatcher.is_current()

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

    # -- what the parts below need ------------------------------------------------------------------------

    def wait(self, receipt: Receipt, stage: Stage, deadline: float) -> None:
        """Wait for a receipt. Not for you: use ``receipt.wait()``. Under the lock."""
        transport = self._transport
        while transport is not None:
            session = receipt.session  # a take-over by another session moves the receipt there
            is_settled = self._settles(receipt, session, stage)
            if not transport.engine.wait(session.box, is_settled, deadline) or receipt.session is session:
                return

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

    def _spool(self, session: Session, payloads: list[bytes], with_receipts: bool = True) -> list[Any]:
        """Write messages to the store; returns their receipts when they are on disk. Under the lock."""
        return self._on_disk(self._running().spool(session, payloads, with_receipts))

    def _on_disk(self, entry: Spool) -> list[Any]:
        """Wait for the disk; returns the receipts. Under the lock."""
        self._await(lambda: entry.is_settled, NEVER, entry.box)
        return accepted(entry)

    def _grow(self, count: int) -> None:
        if self._hub is not None:
            self._hub.grow(count)
            self.transport.update()

    def _default_timeout(self) -> float | None:
        return 0 if self._in_callback() else None

    # -- fork ------------------------------------------------------------------------------------

    def _forked(self) -> None:
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

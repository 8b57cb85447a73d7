"""Taking what has arrived: the ``data_…`` calls, for every endpoint and view that has a mailbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from linkbox.core.mailbox import Batch, MailboxState, Source
from linkbox.core.session import NEVER
from linkbox.errors import EndOfData, Incomplete, MailboxEmpty, StateError
from linkbox.events import Message
from linkbox.formats import Joined, K_co, T

U = TypeVar("U")


class _Impossible:
    """No mailbox has items of it; only Any fits, which is what the first overload below is for."""


class Receiving(Generic[T, K_co]):
    """The taking side of an endpoint. Every call may be made from any thread, at any time.

    Callbacks and these calls never disturb each other: a message is stored first, then the bell rings,
    and whoever takes it has it alone.
    """

    if not TYPE_CHECKING:  # ServerP2P[Point] also at run time, where a TypeVar has no default before 3.13
        __class_getitem__ = classmethod(GenericAlias)

    _mailbox: MailboxState
    _source: Source | None = None
    _opens = False
    """Is what stands in the mailbox no value yet, see `_open_item`?"""
    lock: threading.RLock

    # What differs between an endpoint and a view on one peer.

    def _flush_acks(self) -> None:
        """Write what taking has made urgent. Under the lock."""
        raise NotImplementedError

    def _await(self, wish: Any, deadline: float) -> bool:
        """Wait, working, for a wish on the mailbox. Under the lock."""
        raise NotImplementedError

    def _over(self) -> Exception | None:
        """Why nothing more will come, if so. Under the lock."""
        raise NotImplementedError

    def _grow(self, count: int) -> None:
        """Let the mailbox hold that much, for somebody waits for it. Under the lock."""
        raise NotImplementedError

    def _default_timeout(self) -> float | None:
        """None, or 0 inside a callback: a poller may have been quicker, and nobody may wait there."""
        raise NotImplementedError

    def _open_item(self, item: Any) -> T:
        """The value of what stands in the mailbox; raises if that is a failure."""
        value: T = item
        return value

    # The calls.

    def data_empty(self) -> bool:
        """Is the mailbox empty? Never blocks."""
        source = self._source
        return not (self._mailbox.count if source is None else source.waiting)

    def data_count(self) -> int:
        """How much is waiting: bytes for Bytes, asks for ServerAR, otherwise messages."""
        with self.lock:
            return self._mailbox.size(self._source)

    def data_get(self, timeout: float | None = None) -> T:
        """Take the next message.

        ``timeout`` in seconds: None waits for ever (inside a callback: not at all), 0 not at all.
        Raises `MailboxEmpty` when time is up, `EndOfData` when the conversation is over and everything
        has been taken (on a view, or a client: `PeerLost` when the peer was lost instead).
        """
        hand = self._mailbox.hand
        if hand and self._source is None:
            try:
                item = hand.popleft()
            except IndexError:
                pass  # Somebody was quicker.
            else:
                if not hand:
                    self._settle_hand()
                return self._open_item(item) if self._opens else item
        return self._open_item(self._take(timeout))

    def _settle_hand(self) -> None:
        with self.lock:
            try:
                self._mailbox.settle_hand()
                self._flush_acks()
            except BaseException:  # Ctrl-C in the middle of it
                self._mailbox.recount()
                raise

    def _take(self, timeout: float | None) -> Any:
        mailbox, source = self._mailbox, self._source
        with self.lock:
            if not mailbox.has(source):
                self._wait_for_message(timeout)
            try:
                item = mailbox.take(source)
                self._flush_acks()
                if source is None:
                    mailbox.open_hand()
            except BaseException:
                mailbox.recount()
                raise
        return item

    def _wait_for_message(self, timeout: float | None) -> None:
        mailbox, source = self._mailbox, self._source
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else monotonic() + timeout
        if self._over() is None and timeout != 0:
            self._await(lambda: mailbox.has(source) or self._over() is not None, deadline)
        if not mailbox.has(source):
            over = self._over()
            if over is not None:
                raise over
            raise MailboxEmpty(f"no message within {timeout:g} s" if timeout else "no message is waiting")

    @overload  # T is Any: a list
    def data_get_count(
        self: Receiving[_Impossible, object], count: int, timeout: float | None = None
    ) -> list[Any]: ...

    @overload  # Bytes
    def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[bytes, Joined],  # pyright: ignore[reportOverlappingOverload]
        count: int,
        timeout: float | None = None,
    ) -> bytes: ...

    @overload  # any other format
    def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[U, str], count: int, timeout: float | None = None
    ) -> list[U]: ...

    @overload  # not known which: ServerP2P(address), ServerP2P[bytes] written by hand
    def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[bytes, object], count: int, timeout: float | None = None
    ) -> bytes: ...

    @overload  # ServerP2P[Point] written by hand
    def data_get_count(self: Receiving[U, object], count: int, timeout: float | None = None) -> list[U]: ...

    def data_get_count(self, count: int, timeout: float | None = None) -> Any:
        """Take exactly ``count``: bytes (as one ``bytes``) for Bytes, otherwise messages (as a list).

        Byte counts go across message borders, what is left of a message stays first, and they never mix
        peers. Raises `MailboxEmpty` when there is not enough in time (nothing is taken), `Incomplete`
        (with ``.available``) when there never will be, `EndOfData` when nothing at all is left, and
        `ValueError` for a count below 1 or beyond ``Limits(mailbox_total=…)``.
        """
        mailbox, source = self._mailbox, self._source
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"data_get_count({count!r}): count must be an int")
        if not 1 <= count <= mailbox.count_limit():
            raise ValueError(f"data_get_count({count}): count must be 1 to {mailbox.count_limit()}")
        with self.lock:
            if not mailbox.has_count(count, source):
                self._wait_for_count(count, timeout)
            taken = mailbox.take_count(count, source)
            self._flush_acks()
        return taken if isinstance(taken, bytes) else [self._open_item(item) for item in taken]

    def _wait_for_count(self, count: int, timeout: float | None) -> None:
        mailbox, source = self._mailbox, self._source
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else monotonic() + timeout
        if self._over() is None and timeout != 0:
            self._grow(count)
            self._await(lambda: mailbox.has_count(count, source) or self._over() is not None, deadline)
        if mailbox.has_count(count, source):
            return
        over, available = self._over(), mailbox.available(source)
        if over is not None:
            if not available:
                raise over
            raise Incomplete(f"{count} were asked for, only {available} are left: {over}", available)
        raise MailboxEmpty(f"{count} were asked for, {available} are waiting")

    def data_get_all(self) -> list[T]:
        """Take everything that is waiting now, as a list of messages. Never blocks; may be empty."""
        with self.lock:
            items = self._mailbox.take_all(self._source)
            self._flush_acks()
        return [self._open_item(item) for item in items]

    def message_get(self, timeout: float | None = None, ack: bool = True) -> Message[T]:
        """Take the next message with all that is known of it: ``.data``, ``.peer``, ``.received_at``, ….

        With ``ack=False`` it counts as taken only when ``message.ack()`` is called. Raises like `data_get`.
        """
        mailbox, source = self._mailbox, self._source
        with self.lock:
            if not mailbox.has(source):
                self._wait_for_message(timeout)
            item, batch, number = mailbox.take_message(source, hold=not ack)
            self._flush_acks()
        message = Message(
            self._message_data(item), batch.source.peer, batch.received_at, batch.redelivered, batch.receipt
        )
        if not ack:
            message._ack = lambda: self._acknowledge(batch, number)
        return message

    def _message_data(self, item: Any) -> Any:
        return self._open_item(item)

    def _acknowledge(self, batch: Batch, number: int) -> None:
        with self.lock:
            self._mailbox.unhold(batch.source, number)
            self._flush_acks()

    def __iter__(self) -> Iterator[T]:
        """Take message after message, until the conversation is over."""
        while True:
            try:
                item = self.data_get()
            except EndOfData:
                return
            except MailboxEmpty:
                raise StateError(
                    "a callback cannot iterate over its own endpoint; use data_get_all()"
                ) from None
            yield item

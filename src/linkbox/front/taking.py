"""Taking what has arrived, as far as nobody has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from linkbox.core.mailbox import Batch, MailboxState, Source
from linkbox.errors import Incomplete, MailboxEmpty
from linkbox.events import Message
from linkbox.formats import K_co, T


class Taking(Generic[T, K_co]):
    """The part of an endpoint, or of a view on one peer, that has a mailbox."""

    if not TYPE_CHECKING:  # ServerP2P[Point] also at run time, where a TypeVar has no default before 3.13
        __class_getitem__ = classmethod(GenericAlias)

    _mailbox: MailboxState
    _source: Source | None = None
    _opens = False
    """Is what stands in the mailbox no value yet, see `_open_item`?"""
    lock: Any
    _now: Callable[[], float]

    # What differs between an endpoint and a view on one peer.

    def _flush_acks(self) -> None:
        """Write what taking has made urgent. Under the lock."""
        raise NotImplementedError

    def _over(self) -> Exception | None:
        """Why nothing more will come, if so. Under the lock."""
        raise NotImplementedError

    def _open_item(self, item: Any) -> T:
        """The value of what stands in the mailbox; raises if that is a failure."""
        value: T = item
        return value

    # The calls that never wait.

    def data_empty(self) -> bool:
        """Is the mailbox empty? Never blocks."""
        source = self._source
        return not (self._mailbox.count if source is None else source.waiting)

    def data_count(self) -> int:
        """How much is waiting: bytes for Bytes, asks for ServerAR, otherwise messages."""
        with self.lock:
            return self._mailbox.size(self._source)

    # What the waiting calls are made of.

    def _settle_hand(self) -> None:
        """The last message in hand was taken."""
        with self.lock:
            try:
                self._mailbox.settle_hand()
                self._flush_acks()
            except BaseException:  # Ctrl-C in the middle of it
                self._mailbox.recount()
                raise

    def _take_one(self) -> Any:
        """The next item; there must be one. Under the lock."""
        mailbox, source = self._mailbox, self._source
        try:
            item = mailbox.take(source)
            self._flush_acks()
            if source is None:
                mailbox.open_hand()
        except BaseException:
            mailbox.recount()
            raise
        return item

    def _nothing(self, timeout: float | None) -> NoReturn:
        """There is no message, and no more time to wait for one. Under the lock."""
        over = self._over()
        if over is not None:
            raise over
        raise MailboxEmpty(f"no message within {timeout:g} s" if timeout else "no message is waiting")

    def _check_count(self, count: int) -> None:
        """Can so much ever be waited for?"""
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"data_get_count({count!r}): count must be an int")
        limit = self._mailbox.count_limit()
        if not 1 <= count <= limit:
            raise ValueError(f"data_get_count({count}): count must be 1 to {limit}")

    def _take_count(self, count: int) -> Any:
        """That much; it must be there. Under the lock. `_opened` makes it what the caller gets."""
        taken = self._mailbox.take_count(count, self._source)
        self._flush_acks()
        return taken

    def _opened(self, taken: Any) -> Any:
        """What was taken, as values."""
        return taken if isinstance(taken, bytes) else [self._open_item(item) for item in taken]

    def _too_few(self, count: int) -> NoReturn:
        """There is not so much, and no more time to wait for it. Under the lock."""
        over, available = self._over(), self._mailbox.available(self._source)
        if over is not None:
            if not available:
                raise over
            raise Incomplete(f"{count} were asked for, only {available} are left: {over}", available)
        raise MailboxEmpty(f"{count} were asked for, {available} are waiting")

    def _take_all(self) -> list[Any]:
        """Everything that is waiting now, as items."""
        with self.lock:
            items = self._mailbox.take_all(self._source)
            self._flush_acks()
        return items

    def _take_message(self, ack: bool) -> tuple[Any, Batch, int]:
        """The next item with what is known of it; there must be one. Under the lock."""
        found = self._mailbox.take_message(self._source, hold=not ack)
        self._flush_acks()
        return found

    def _message(self, found: tuple[Any, Batch, int], ack: bool) -> Message[T]:
        item, batch, number = found
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

"""Taking what has arrived: the ``data_…`` calls, for every endpoint and view that has a mailbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any, TypeVar, overload

from linkbox.core.session import NEVER
from linkbox.errors import EndOfData, MailboxEmpty, StateError
from linkbox.events import Message
from linkbox.formats import Joined, K_co, T
from linkbox.front.taking import Taking
from linkbox.threaded.interrupts import interrupts

U = TypeVar("U")


class _Impossible:
    """No mailbox has items of it; only Any fits, which is what the first overload below is for."""


class Receiving(Taking[T, K_co]):
    """The taking side of an endpoint. Every call may be made from any thread, at any time.

    Callbacks and these calls never disturb each other: a message is stored first, then the bell rings,
    and whoever takes it has it alone.
    """

    lock: threading.RLock

    # What differs between an endpoint and a view on one peer.

    def _await(self, wish: Any, deadline: float) -> bool:
        """Wait, working, for a wish on the mailbox. Under the lock."""
        raise NotImplementedError

    def _grow(self, count: int) -> None:
        """Let the mailbox hold that much, for somebody waits for it. Under the lock."""
        raise NotImplementedError

    def _default_timeout(self) -> float | None:
        """None, or 0 inside a callback: a poller may have been quicker, and nobody may wait there."""
        raise NotImplementedError

    # The calls.

    def data_get(self, timeout: float | None = None) -> T:
        """Take the next message.

        ``timeout`` in seconds: None waits for ever (inside a callback: not at all), 0 not at all.
        Raises `MailboxEmpty` when time is up, `EndOfData` when the conversation is over and everything
        has been taken (on a view, or a client: `PeerLost` when the peer was lost instead).
        """
        if interrupts.pending:
            interrupts.run_pending()
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

    def _take(self, timeout: float | None) -> Any:
        with self.lock:
            self._wait_for_message(timeout)
            return self._take_one()

    def _wait_for_message(self, timeout: float | None) -> None:
        """Returns when there is a message. Under the lock."""
        mailbox, source = self._mailbox, self._source
        if mailbox.has(source):
            return
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else monotonic() + timeout
        if self._over() is None and timeout != 0:
            self._await(partial(mailbox.is_ready, source), deadline)
        if not mailbox.has(source):
            self._nothing(timeout)

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
        self._check_count(count)
        with self.lock:
            self._wait_for_count(count, timeout)
            taken = self._take_count(count)
        return self._opened(taken)

    def _wait_for_count(self, count: int, timeout: float | None) -> None:
        """Returns when there is so much. Under the lock."""
        mailbox, source = self._mailbox, self._source
        if mailbox.has_count(count, source):
            return
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else monotonic() + timeout
        if self._over() is None and timeout != 0:
            self._grow(count)
            self._await(partial(mailbox.is_ready, source, count), deadline)
        if not mailbox.has_count(count, source):
            self._too_few(count)

    def data_get_all(self) -> list[T]:
        """Take everything that is waiting now, as a list of messages. Never blocks; may be empty."""
        return [self._open_item(item) for item in self._take_all()]

    def message_get(self, timeout: float | None = None, ack: bool = True) -> Message[T]:
        """Take the next message with all that is known of it: ``.data``, ``.peer``, ``.received_at``, ….

        With ``ack=False`` it counts as taken only when ``message.ack()`` is called. Raises like `data_get`.
        """
        with self.lock:
            self._wait_for_message(timeout)
            found = self._take_message(ack)
        return self._message(found, ack)

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

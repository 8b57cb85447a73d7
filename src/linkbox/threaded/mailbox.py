"""The ``data_…`` calls, which take messages, for all endpoints and views that have a mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from sys import is_finalizing
from typing import Any, overload

from linkbox.core.wait_queue import NOTHING
from linkbox.errors import EndOfData, MailboxEmpty, StateError
from linkbox.events import Message
from linkbox.formats import Joined, K_co, T
from linkbox.operations.arguments import seconds
from linkbox.operations.mailbox import MailboxCalls
from linkbox.operations.steps import NEVER
from linkbox.operations.taking import NO_ITERATION, Taking, U
from linkbox.threaded.interrupts import interrupts
from linkbox.threaded.runtime import Threads


class _Impossible:
    """A type that no mailbox contains: the first overload below matches only Any."""


class Receiving(MailboxCalls[T, K_co]):
    """The mailbox of an endpoint. Every call may be made from any thread, at any time.

    Callbacks and these calls never disturb each other: a message is stored first, then an event is
    emitted; and each message is taken once, by the first call that takes it.
    """

    def __init__(self, taking: Taking, threads: Threads) -> None:
        super().__init__(taking)
        self._threads = threads

    def data_get(self, timeout: float | None = None) -> T:
        """Take the next message.

        ``timeout`` in seconds: None waits for ever (inside a callback: not at all), 0 not at all.
        Raises `MailboxEmpty` at the timeout, `EndOfData` when the conversation has ended and everything has
        been taken (on a view, or a client: `PeerLost` if the peer was lost; on a client `ConnectFailed` or
        `Refused` if it never connected).
        """
        if interrupts.pending or is_finalizing():
            self._threads.before_call()
        if timeout is not None:
            seconds(timeout, "timeout")
        taking, threads = self._taking, self._threads
        if taking.is_direct:
            hand = taking.mailbox.fast_queue
            if hand and taking.source is None:
                try:
                    value: T = hand.popleft()
                except IndexError:
                    pass  # Another thread was faster.
                else:
                    if not hand:
                        with threads.lock:
                            taking.settle_fast_queue()
                    return value
            with threads.lock:
                if (
                    transport := threads.transport
                ) is not None:  # The same as `Taking.get`, with fewer calls.
                    is_simple = timeout is None and taking.endpoint.callback_loop is None
                    until = NEVER if is_simple else taking.deadline(timeout)
                    value = transport.engine.wait(taking.mailbox.changed, taking, until)
                    if value is NOTHING:
                        raise taking.nothing(timeout, transport)
                    return value
        return threads.run(taking.get(timeout))

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

        A byte count may cross message boundaries (the rest of a message stays first), but never mixes
        peers. Raises `MailboxEmpty` if there is not enough in time (nothing is taken), `Incomplete` (with
        ``.available``) if the conversation has ended with less, `EndOfData` if nothing is left, and
        `ValueError` for a count below 1 or above ``Limits(mailbox_total=…)``.
        """
        return self._threads.run(self._taking.get_count(count, timeout))

    def bytes_get(self: Receiving[bytes, Any], n: int, timeout: float | None = None) -> bytes:
        """Take exactly ``n`` bytes, as `data_get_count` does. Only for Bytes."""
        return self._threads.run(self._taking.get_bytes(n, timeout))

    def data_get_until(
        self: Receiving[bytes, Any],
        separator: bytes | tuple[bytes, ...],
        timeout: float | None = None,
        keep: bool = False,
    ) -> bytes:
        """Take the bytes up to the first separator, or up to the first of several.

        The separator is taken too, and is returned with ``keep=True``. Of separators that begin at the same
        byte, the longest that is there counts. Bytes of several peers are never mixed. Only for Bytes.
        Raises like `data_get_count`, and `TooLarge` if there is none in ``Limits(mailbox_total=…)`` bytes.
        """
        return self._threads.run(self._taking.get_until(separator, timeout, keep))

    def message_get(self, timeout: float | None = None, ack: bool = True) -> Message[T]:
        """Take the next message with its metadata: ``.data``, ``.peer``, ``.received_at``, ….

        With ``ack=False`` it counts as taken only when ``message.ack()`` is called. Raises like `data_get`.
        """
        return self._threads.run(self._taking.get_message(timeout, ack))

    def __iter__(self) -> Iterator[T]:
        """Take message after message until the conversation ends."""
        while True:
            try:
                message = self.data_get()
            except EndOfData:
                return
            except MailboxEmpty:
                raise StateError(NO_ITERATION) from None
            yield message

"""The ``data_…`` calls, which take messages, for all endpoints and views that have a mailbox."""

from __future__ import annotations

from typing import Any, Generic, overload

from linkbox.aio.runtime import Tasks
from linkbox.core.wait_queue import NOTHING
from linkbox.errors import EndOfData, MailboxEmpty, StateError
from linkbox.events import Message
from linkbox.formats import Joined, K_co, T
from linkbox.operations.mailbox import MailboxCalls
from linkbox.operations.steps import NEVER
from linkbox.operations.taking import NO_ITERATION, Taking, U


class _Impossible:
    """A type that no mailbox contains: the first overload below matches only Any."""


class Receiving(MailboxCalls[T, K_co]):
    """The mailbox of an endpoint. Any number of tasks may wait at the same time.

    Callbacks and these calls never disturb each other: a message is stored first, then an event is
    emitted; and each message is taken once, by the first call that takes it. A cancelled call has taken
    nothing.
    """

    def __init__(self, taking: Taking, tasks: Tasks) -> None:
        super().__init__(taking)
        self._tasks = tasks

    async def data_get(self, timeout: float | None = None) -> T:
        """Take the next message.

        ``timeout`` in seconds: None waits for ever (inside a callback: not at all), 0 not at all.
        Raises `MailboxEmpty` at the timeout, `EndOfData` when the conversation has ended and everything has
        been taken (on a view, or a client: `PeerLost` if the peer was lost; on a client `ConnectFailed` or
        `Refused` if it never connected).
        """
        taking, driver = self._taking, self._tasks.aio_driver
        if driver is None or not taking.is_direct or driver.loop.is_closed():
            return await self._tasks.run(taking.get(timeout))
        deadline = NEVER
        if timeout is not None or taking.endpoint.callback_loop is not None:
            deadline = taking.deadline(timeout)
        message: T = await driver.wait(taking.mailbox.changed, taking, deadline)
        if message is NOTHING:
            raise taking.nothing(timeout, driver)
        return message

    @overload  # T is Any: a list
    async def data_get_count(
        self: Receiving[_Impossible, object], count: int, timeout: float | None = None
    ) -> list[Any]: ...

    @overload  # Bytes
    async def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[bytes, Joined],  # pyright: ignore[reportOverlappingOverload]
        count: int,
        timeout: float | None = None,
    ) -> bytes: ...

    @overload  # any other format
    async def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[U, str], count: int, timeout: float | None = None
    ) -> list[U]: ...

    @overload  # not known which: ServerP2P(address), ServerP2P[bytes] written by hand
    async def data_get_count(  # type: ignore[overload-overlap]
        self: Receiving[bytes, object], count: int, timeout: float | None = None
    ) -> bytes: ...

    @overload  # ServerP2P[Point] written by hand
    async def data_get_count(
        self: Receiving[U, object], count: int, timeout: float | None = None
    ) -> list[U]: ...

    async def data_get_count(self, count: int, timeout: float | None = None) -> Any:
        """Take exactly ``count``: bytes (as one ``bytes``) for Bytes, otherwise messages (as a list).

        A byte count may cross message boundaries (the rest of a message stays first), but never mixes
        peers. Raises `MailboxEmpty` if there is not enough in time (nothing is taken), `Incomplete` (with
        ``.available``) if the conversation has ended with less, `EndOfData` if nothing is left, and
        `ValueError` for a count below 1 or above ``Limits(mailbox_total=…)``.
        """
        return await self._tasks.run(self._taking.get_count(count, timeout))

    async def bytes_get(self: Receiving[bytes, Any], n: int, timeout: float | None = None) -> bytes:
        """Take exactly ``n`` bytes, as `data_get_count` does. Only for Bytes."""
        return await self._tasks.run(self._taking.get_bytes(n, timeout))

    async def data_get_until(
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
        return await self._tasks.run(self._taking.get_until(separator, timeout, keep))

    async def message_get(self, timeout: float | None = None, ack: bool = True) -> Message[T]:
        """Take the next message with its metadata: ``.data``, ``.peer``, ``.received_at``, ….

        With ``ack=False`` it counts as taken only when ``message.ack()`` is called. Raises like `data_get`.
        """
        return await self._tasks.run(self._taking.get_message(timeout, ack))

    def __aiter__(self) -> Messages[T]:
        """Take message after message until the conversation ends."""
        return Messages(self)


class Messages(Generic[T]):
    """An iteration over the messages of a mailbox."""

    def __init__(self, mailbox: Receiving[T, Any]) -> None:
        self._mailbox = mailbox

    def __aiter__(self) -> Messages[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._mailbox.data_get()
        except EndOfData:
            raise StopAsyncIteration from None
        except MailboxEmpty:
            raise StateError(NO_ITERATION) from None

"""Taking what has arrived: the ``data_…`` calls, for every endpoint and view that has a mailbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeVar, overload

from linkbox.core.session import NEVER
from linkbox.errors import EndOfData, MailboxEmpty, StateError
from linkbox.events import Message
from linkbox.formats import Joined, K_co, T
from linkbox.front.taking import Taking

U = TypeVar("U")


class _Impossible:
    """No mailbox has items of it; only Any fits, which is what the first overload below is for."""


class Receiving(Taking[T, K_co]):
    """The taking side of an endpoint. Any number of tasks may wait at once.

    Callbacks and these calls never disturb each other: a message is stored first, then the bell rings,
    and whoever takes it has it alone. A call that is cancelled has taken nothing.
    """

    # What differs between an endpoint and a view on one peer.

    async def _await(self, wish: Any, deadline: float) -> bool:
        """Wait for a wish on the mailbox."""
        raise NotImplementedError

    def _grow(self, count: int) -> None:
        """Let the mailbox hold that much, for somebody waits for it."""
        raise NotImplementedError

    def _default_timeout(self) -> float | None:
        """None, or 0 inside a callback: a poller may have been quicker, and nobody may wait there."""
        raise NotImplementedError

    # The calls.

    async def data_get(self, timeout: float | None = None) -> T:
        """Take the next message.

        ``timeout`` in seconds: None waits for ever (inside a callback: not at all), 0 not at all.
        Raises `MailboxEmpty` when time is up, `EndOfData` when the conversation is over and everything
        has been taken (on a view, or a client: `PeerLost` when the peer was lost instead).
        """
        hand = self._mailbox.hand
        if hand and self._source is None:
            item = hand.popleft()
            if not hand:
                self._settle_hand()
            return self._open_item(item)
        await self._wait_for_message(timeout)
        return self._open_item(self._take_one())

    async def _wait_for_message(self, timeout: float | None) -> None:
        mailbox, source = self._mailbox, self._source
        if mailbox.has(source):
            return
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else self._now() + timeout
        if self._over() is None and timeout != 0:
            await self._await(partial(mailbox.is_ready, source), deadline)
        if not mailbox.has(source):
            self._nothing(timeout)

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

        Byte counts go across message borders, what is left of a message stays first, and they never mix
        peers. Raises `MailboxEmpty` when there is not enough in time (nothing is taken), `Incomplete`
        (with ``.available``) when there never will be, `EndOfData` when nothing at all is left, and
        `ValueError` for a count below 1 or beyond ``Limits(mailbox_total=…)``.
        """
        self._check_count(count)
        await self._wait_for_count(count, timeout)
        return self._opened(self._take_count(count))

    async def _wait_for_count(self, count: int, timeout: float | None) -> None:
        mailbox, source = self._mailbox, self._source
        if mailbox.has_count(count, source):
            return
        if timeout is None:
            timeout = self._default_timeout()
        deadline = NEVER if timeout is None else self._now() + timeout
        if self._over() is None and timeout != 0:
            self._grow(count)
            await self._await(partial(mailbox.is_ready, source, count), deadline)
        if not mailbox.has_count(count, source):
            self._too_few(count)

    def data_get_all(self) -> list[T]:
        """Take everything that is waiting now, as a list of messages. Never waits; may be empty."""
        return [self._open_item(item) for item in self._take_all()]

    async def message_get(self, timeout: float | None = None, ack: bool = True) -> Message[T]:
        """Take the next message with all that is known of it: ``.data``, ``.peer``, ``.received_at``, ….

        With ``ack=False`` it counts as taken only when ``message.ack()`` is called. Raises like `data_get`.
        """
        await self._wait_for_message(timeout)
        return self._message(self._take_message(ack), ack)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Take message after message, until the conversation is over."""
        while True:
            try:
                item = await self.data_get()
            except EndOfData:
                return
            except MailboxEmpty:
                raise StateError(
                    "a callback cannot iterate over its own endpoint; use data_get_all()"
                ) from None
            yield item

"""The public mailbox calls that never wait, which are the same for both front ends."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Generic

from linkbox.formats import K_co, T
from linkbox.operations.owner import finalize
from linkbox.operations.taking import Taking


class MailboxCalls(Generic[T, K_co]):
    """The calls of an endpoint or a view for its mailbox that never wait."""

    def __class_getitem__(cls, item: Any) -> GenericAlias:
        # For ServerP2P[Point] at run time: a TypeVar has no default before Python 3.13.
        return GenericAlias(cls, item)

    def __init__(self, taking: Taking) -> None:
        self._taking = taking

    def __del__(self) -> None:
        finalize(self, getattr(self, "_operations", None))  # a view has none

    def data_empty(self) -> bool:
        """Is the mailbox empty? Never waits."""
        return self._taking.is_empty()

    def data_count(self) -> int:
        """How much is waiting: bytes for Bytes, requests for ServerAR, otherwise messages."""
        return self._taking.size()

    def data_get_all(self) -> list[T]:
        """Take everything that is waiting now, as a list of messages. Never waits; may be empty."""
        return self._taking.take_all()

    def data_peek(self: MailboxCalls[bytes, Any], count: int) -> bytes:
        """Return the next bytes, at most ``count``, without taking them. Never waits; may be empty.

        Only for Bytes. With several peers, those of the peer that has waited longest.
        """
        return self._taking.peek(count)

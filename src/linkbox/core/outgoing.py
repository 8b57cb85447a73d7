"""The entries of a send window: messages, pieces of large messages, bundles of small messages.

A *unit* has a number on the wire (see send_window.py). An `OutgoingMessage` is one message, and one unit if
it is small enough. A `Piece` is one unit of a message that is too large for one. A `Bundle` is many small
messages without receipts, as from ``send_many``: one object for as many units as it has messages. It moves
through the queues as a whole. Where it cannot (credit for half of it, one message rejected), it is replaced
by its messages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter

from linkbox.core.channel import AskHeader, Channel, OutgoingMessage, Unit
from linkbox.core.wait_queue import ENDLESS

__all__ = [
    "AskHeader",
    "Bundle",
    "MessageType",
    "OutgoingMessage",
    "Piece",
    "Unit",
    "add_range",
    "batch_size",
    "count_of",
    "message_of",
    "messages_of",
    "size_of",
]

MessageType = type[OutgoingMessage]
"""The receipt class of an endpoint."""


class Piece(Unit):
    """One unit of a message that is too large for one."""

    __slots__ = ("message", "start", "stop")

    def __init__(self, message: OutgoingMessage, start: int, stop: int) -> None:
        self.number = 0
        self.message: OutgoingMessage = message
        self.start: int = start
        self.stop: int = stop

    @property
    def is_last(self) -> bool:
        """Is this the last piece of the message?"""
        return self.stop == self.message.size()


class Bundle(Unit):
    """Small messages that are sent together, without a receipt for each."""

    __slots__ = ("channel", "message_type", "nbytes", "payloads")

    def __init__(
        self, channel: Channel, message_type: MessageType, payloads: list[bytes], nbytes: int
    ) -> None:
        self.number = 0
        self.channel: Channel = channel
        self.message_type: MessageType = message_type
        self.payloads: list[bytes] = payloads
        self.nbytes: int = nbytes

    def messages(self) -> list[OutgoingMessage]:
        """The same messages as separate objects, each with a receipt."""
        messages = [self.message_type(self.channel, payload) for payload in self.payloads]
        if self.number:
            for number, message in enumerate(messages, self.number - len(messages) + 1):
                message.number = number
        return messages


def message_of(unit: Unit) -> OutgoingMessage:
    """The unit as a message; it must not be a piece or a bundle."""
    assert isinstance(unit, OutgoingMessage)
    return unit


def messages_of(units: Iterable[Unit]) -> list[OutgoingMessage]:
    """The messages of these units; a message in several pieces is returned once."""
    found: list[OutgoingMessage] = []
    for unit in units:
        if isinstance(unit, Bundle):
            found += unit.messages()
        elif isinstance(unit, Piece):
            found.append(unit.message)
        else:
            assert isinstance(unit, OutgoingMessage)
            found.append(unit)
    return found


def count_of(unit: Unit) -> int:
    """The number of units in this entry."""
    return len(unit.payloads) if isinstance(unit, Bundle) else 1


def size_of(unit: Unit) -> int:
    """Bytes of payload in this entry, without bytes that are in separate pieces."""
    if isinstance(unit, Piece):
        return unit.stop - unit.start
    if isinstance(unit, Bundle):
        return unit.nbytes
    assert isinstance(unit, OutgoingMessage)
    return unit.size() - unit.offset


def batch_size(unit: Unit) -> int:
    """Bytes that a unit adds to a BATCH; for a unit that a BATCH cannot hold, more than fit."""
    if isinstance(unit, OutgoingMessage) and unit.header is None:
        return unit.size()
    return ENDLESS


def add_range(ranges: list[tuple[int, int]], first: int, last: int) -> None:
    """Add consecutive numbers to a sorted list of ranges. Only the thousand highest ranges are kept.

    A peer may send any number of ranges, so finding the position must be cheap.
    """
    at = bisect_right(ranges, first, key=itemgetter(0))
    if at and ranges[at - 1][1] + 1 >= first:
        ranges[at - 1] = (ranges[at - 1][0], max(last, ranges[at - 1][1]))
    else:
        ranges.insert(at, (first, last))
        del ranges[:-1000]

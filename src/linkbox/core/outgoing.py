"""What is in a session's queues: messages, pieces of large ones, bundles of small ones.

A *unit* is what has a number on the wire (see send_window.py). An `OutgoingMessage` is one message, and one unit if
it is small enough. A `Piece` is one unit of a message that is too large for one. A `Bundle` is many small messages
without a receipt, as from ``send_many``: as many units as it has messages, in one object. It moves through the queues
as a whole; where it cannot (credit for half of it, one message rejected), its messages take its place.
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
    "messages_of",
    "size_of",
]

MessageType = type[OutgoingMessage]
"""The class of an endpoint's receipts."""


class Piece(Unit):
    """One unit of a message that is too large for one."""

    __slots__ = ("message", "start", "stop")

    def __init__(self, message: OutgoingMessage, start: int, stop: int) -> None:
        self.number = 0
        self.message = message
        self.start = start
        self.stop = stop

    @property
    def is_last(self) -> bool:
        """Does the message end with this piece?"""
        return self.stop == self.message.size()


class Bundle(Unit):
    """Small messages that are sent together, without a receipt for each."""

    __slots__ = ("channel", "message_type", "nbytes", "payloads")

    def __init__(
        self, channel: Channel, message_type: MessageType, payloads: list[bytes], nbytes: int
    ) -> None:
        self.number = 0
        self.channel = channel
        self.message_type = message_type
        self.payloads = payloads
        self.nbytes = nbytes

    def messages(self) -> list[OutgoingMessage]:
        """The same as single messages, each with a receipt."""
        messages = [self.message_type(self.channel, payload) for payload in self.payloads]
        if self.number:
            for number, message in enumerate(messages, self.number - len(messages) + 1):
                message.number = number
        return messages


def messages_of(units: Iterable[Unit]) -> list[OutgoingMessage]:
    """The messages that these units are, or are pieces of; the same one for several pieces."""
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
    """How many numbers it takes."""
    return len(unit.payloads) if isinstance(unit, Bundle) else 1


def size_of(unit: Unit) -> int:
    """How many bytes of messages it holds that are not in pieces of their own."""
    if isinstance(unit, Piece):
        return unit.stop - unit.start
    if isinstance(unit, Bundle):
        return unit.nbytes
    assert isinstance(unit, OutgoingMessage)
    return unit.size() - unit.offset


def batch_size(unit: Unit) -> int:
    """What a unit adds to a BATCH; for a unit that a BATCH cannot hold, more than fits."""
    if isinstance(unit, OutgoingMessage) and unit.header is None:
        return unit.size()
    return ENDLESS


def add_range(ranges: list[tuple[int, int]], first: int, last: int) -> None:
    """Add consecutive numbers to a sorted list of ranges. Only the thousand highest ranges are kept.

    A peer may name any number of them, again and again: finding the position must be cheap.
    """
    at = bisect_right(ranges, first, key=itemgetter(0))
    if at and ranges[at - 1][1] + 1 >= first:
        ranges[at - 1] = (ranges[at - 1][0], max(last, ranges[at - 1][1]))
    else:
        ranges.insert(at, (first, last))
        del ranges[:-1000]

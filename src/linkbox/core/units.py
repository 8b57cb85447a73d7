"""What stands in a session's queues: messages, pieces of large messages, bundles of small ones.

How to think about it. A *unit* is what is numbered on the wire (see session.py). A `Delivery` is one
message, and one unit if it is small enough; it is what an application holds as its receipt. A `Piece` is
one unit of a message too large for one. A `Bundle` is many small messages that nobody asked a receipt of,
as from ``send_many``: as many units as it has messages, in one object. It moves through the queues as a
whole; where it cannot (credit for half of it, one message refused), its deliveries take its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec

from linkbox.core import frames
from linkbox.core.mailbox import ENDLESS
from linkbox.errors import MailboxFull
from linkbox.events import Stage


class Delivery(msgspec.Struct, eq=False, weakref=True):
    """A message on its way out. The front ends' receipts are subclasses that can be waited for."""

    session: Any
    payload: Any = None
    kind: int = frames.DATA
    number: int = 0
    """The number of its last unit; 0 until that was written."""
    offset: int = 0
    """How much of it has been cut into pieces."""
    error: Exception | None = None
    """Why it failed, or None."""
    id: int = 0
    """Of the ask it belongs to; of a message in a store: its number there."""
    flags: int = 0
    deadline: float | None = None

    def __repr__(self) -> str:
        return f"<Receipt {self.stage.name}>"

    @property
    def stage(self) -> Stage:
        """How far the message has come. Never goes back, but from SENT to QUEUED when a link drops."""
        if self.error is not None:
            return Stage.FAILED
        number, session = self.number, self.session
        if number == 0 or number > session.sent:
            return Stage.QUEUED
        if session.dropped and session.was_dropped(number):
            self.error = MailboxFull(f"{session.peer} dropped the message from its full mailbox, untaken")
            return Stage.FAILED
        if number <= session.taken:  # over a plain framing this stays 0
            return Stage.TAKEN
        return Stage.RECEIVED if number <= session.acked and not session.is_plain else Stage.SENT


class Piece:
    """One unit of a message that is too large for one."""

    __slots__ = ("delivery", "number", "start", "stop")

    def __init__(self, delivery: Delivery, start: int, stop: int) -> None:
        self.delivery = delivery
        self.number = 0
        self.start = start
        self.stop = stop

    @property
    def is_last(self) -> bool:
        return self.stop == len(self.delivery.payload)


class Bundle:
    """Small messages that are sent together, without a receipt for each."""

    __slots__ = ("nbytes", "number", "payloads", "session")

    def __init__(self, session: Any, payloads: list[bytes], nbytes: int) -> None:
        self.session = session
        self.payloads = payloads
        self.nbytes = nbytes
        self.number = 0
        """The number of the last of them; 0 until they were written."""

    def deliveries(self) -> list[Delivery]:
        """The same as single messages, each with a receipt."""
        deliveries = [self.session.receipts(self.session, payload) for payload in self.payloads]
        if self.number:
            for number, delivery in enumerate(deliveries, self.number - len(deliveries) + 1):
                delivery.number = number
        return deliveries


def deliveries_of(units: Iterable[Any]) -> list[Delivery]:
    """The messages that these units are, or are pieces of; the same one for several pieces."""
    found: list[Delivery] = []
    for unit in units:
        if unit.__class__ is Bundle:
            found += unit.deliveries()
        else:
            found.append(unit.delivery if unit.__class__ is Piece else unit)
    return found


def count_of(unit: Any) -> int:
    """How many numbers it takes."""
    return len(unit.payloads) if unit.__class__ is Bundle else 1


def is_cut_up(unit: Any) -> bool:
    """Has a message been cut into pieces to its end? Then the pieces stand for it."""
    return isinstance(unit, Delivery) and 0 < unit.offset >= len(unit.payload)


def size_of(unit: Any) -> int:
    """How many bytes of messages it holds that are not in pieces of their own."""
    if unit.__class__ is Piece:
        return int(unit.stop - unit.start)
    if unit.__class__ is Bundle:
        return int(unit.nbytes)
    return len(unit.payload or b"") - int(unit.offset)


def batch_size(unit: Any) -> int:
    """What a unit adds to a batch; a unit that cannot be part of one is made not to fit."""
    if unit.__class__ is Piece or unit.__class__ is Bundle or unit.kind != frames.DATA:
        return ENDLESS
    return len(unit.payload)


def add_range(ranges: list[tuple[int, int]], first: int, last: int) -> None:
    """Note numbers, mostly consecutive ones, in order. Only the thousand highest ranges are kept.

    A peer may name as many as it likes, and again: finding the place must cost next to nothing.
    """
    at = bisect_right(ranges, first, key=itemgetter(0))
    if at and ranges[at - 1][1] + 1 >= first:
        ranges[at - 1] = (ranges[at - 1][0], max(last, ranges[at - 1][1]))
    else:
        ranges.insert(at, (first, last))
        del ranges[:-1000]

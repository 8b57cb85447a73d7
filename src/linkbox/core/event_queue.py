"""The queue of events for which callbacks have not been called yet."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from linkbox.core.channel import OutgoingMessage
from linkbox.core.wait_queue import WaitQueue
from linkbox.events import EventKind, Peer

DATA = EventKind.DATA


class PendingEvent(NamedTuple):
    """An event for which callbacks have not been called yet."""

    kind: EventKind
    peer: Peer | None
    error: Exception | None
    receipt: OutgoingMessage | None
    times: int
    """How many equal events this entry represents."""
    at: float
    """Seconds since the epoch."""


class EventQueue:
    """The events of an endpoint. An event without a callback for its kind is dropped."""

    __slots__ = ("changed", "events", "listening", "pending", "wall")

    def __init__(self, wall: float) -> None:
        self.wall = wall
        """What to add to the time of the core to get seconds since the epoch."""
        self.listening: set[EventKind] = set()
        """The kinds that have a callback."""
        self.events: deque[PendingEvent] = deque()
        self.pending = 0
        """Events whose callbacks have not returned, of any kind: they count as waiting messages."""
        self.changed = WaitQueue()

    def add(
        self,
        kind: EventKind,
        peer: Peer | None,
        error: Exception | None,
        receipt: OutgoingMessage | None,
        count: int,
        now: float,
    ) -> None:
        """Add an event that happened ``count`` times. The caller wakes ``changed``."""
        self.events.append(PendingEvent(kind, peer, error, receipt, count, now + self.wall))
        self.pending += count

    def take(self) -> PendingEvent:
        """The next event; there must be one. Call `done` when its callbacks have returned."""
        return self.events.popleft()

    def done(self, count: int) -> None:
        """Callbacks have returned for ``count`` events."""
        self.pending = max(0, self.pending - count)

    def forget_data(self) -> int:
        """Drop the DATA events, whose last callback was removed; returns how many there were."""
        dropped = sum(each.times for each in self.events if each.kind is DATA)
        self.events = deque(each for each in self.events if each.kind is not DATA)
        return dropped

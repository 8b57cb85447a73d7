"""The queue of events for which callbacks have not been called yet.

A callback may block for as long as it likes, and peers can cause events meanwhile. What waits is bounded:

- DATA, PART and events of receipts by the credit of the peers and by the send windows: all events that wait
  (`EventQueue.pending`) count as waiting messages.
- DATA where no credit does that (plain framings, dropping policies, responses) by the messages that the
  mailbox may hold from one peer. A further message takes over the event of one that is gone already.
- All others (CONNECTED, DISCONNECTED, END, ERROR, …) by `MOST_EVENTS`. Events beyond are dropped, and counted
  in ``statistics().events_dropped``. A peer whose CONNECTED is in the queue gets its DISCONNECTED in any
  case; a peer whose CONNECTED was dropped gets none (`SessionTable.announce_up`).
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from linkbox.core.channel import OutgoingMessage
from linkbox.core.settings import Counters
from linkbox.core.wait_queue import WaitQueue
from linkbox.events import EventKind, Peer

DATA = EventKind.DATA
PART = EventKind.PART
MOST_EVENTS: Final = 10_000
"""Most events that wait and that nothing else limits."""


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

    def is_limited_here(self) -> bool:
        """Does only `MOST_EVENTS` limit such events?"""
        return (
            self.receipt is None and self.peer is not None and self.kind is not DATA and self.kind is not PART
        )


class EventQueue:
    """The events of an endpoint. An event without a callback for its kind is dropped."""

    __slots__ = (
        "_counters",
        "_data_waiting",
        "_most_data",
        "changed",
        "events",
        "is_overflowing",
        "listening",
        "others",
        "pending",
        "wall",
    )

    def __init__(self, wall: float, counters: Counters, most_data: int | None) -> None:
        """``most_data``: about how many DATA events of one peer may wait; None if credit limits them."""
        self.wall: float = wall
        """What to add to the time of the core to get seconds since the epoch."""
        self.listening: set[EventKind] = set()
        """The kinds that have a callback."""
        self.events: deque[PendingEvent] = deque()
        self.pending: int = 0
        """Events whose callbacks have not returned, of any kind: they count as waiting messages."""
        self.others: int = 0
        """Events in the queue that only `MOST_EVENTS` limits."""
        self.is_overflowing: bool = False
        """Was an event dropped, and is the queue not empty since?"""
        self.changed: WaitQueue = WaitQueue()
        self._counters = counters
        self._most_data = most_data
        self._data_waiting: dict[Peer | None, int] = {}
        """DATA events in the queue, by their peers; only if `_most_data` limits them."""

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

    def add_limited(self, kind: EventKind, peer: Peer, error: Exception | None, now: float) -> None:
        """Add an event that only `MOST_EVENTS` limits; see `has_room`."""
        self.add(kind, peer, error, None, 1, now)
        self.others += 1

    def has_room(self) -> bool:
        """May an event be added that only `MOST_EVENTS` limits? If not, it is counted as dropped."""
        if self.others < MOST_EVENTS:
            return True
        self._counters.events_dropped += 1
        return False

    def takes_over(self, peer: Peer | None, count: int = 1) -> bool:
        """Do messages take over the DATA events of messages of this peer that are gone, and wait still?"""
        if self._most_data is None or DATA not in self.listening:
            return False
        waiting = self._data_waiting.get(peer, 0)
        if waiting >= self._most_data:
            return True
        self._data_waiting[peer] = waiting + count
        return False

    def take(self) -> PendingEvent:
        """The next event; there must be one. Call `done` when its callbacks have returned."""
        event = self.events.popleft()
        if event.kind is not DATA:
            if event.is_limited_here():
                self.others -= 1
        elif self._data_waiting:
            left = self._data_waiting.get(event.peer, 0) - event.times
            if left > 0:
                self._data_waiting[event.peer] = left
            else:
                self._data_waiting.pop(event.peer, None)
        if not self.events:
            self.is_overflowing = False
        return event

    def done(self, count: int) -> None:
        """Callbacks have returned for ``count`` events."""
        self.pending = max(0, self.pending - count)

    def forget_data(self) -> int:
        """Drop the DATA events, whose last callback was removed; returns how many there were."""
        dropped = sum(each.times for each in self.events if each.kind is DATA)
        self.events = deque(each for each in self.events if each.kind is not DATA)
        self._data_waiting.clear()
        return dropped

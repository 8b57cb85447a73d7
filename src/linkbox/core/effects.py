"""What the driver must do after a call into the core: write connections, wake waiters, emit events, log.

All parts of the core of an endpoint add to the same `Effects` object. `Route` leads from a session to the
connection that carries it now.
"""

from __future__ import annotations

from typing import NamedTuple

from linkbox.core.channel import OutgoingMessage
from linkbox.core.connection import Connection
from linkbox.core.event_queue import EventQueue
from linkbox.core.timers import NEVER, Timers
from linkbox.core.wait_queue import WaitQueue
from linkbox.events import EventKind, Peer

ACK_NOT_DUE, ACK_DUE_SOON, ACK_DUE_NOW = 0, 1, 2
"""Urgency of an acknowledgement: none is due; with the next write, or after a delay; at the next flush."""
UNAUTHENTICATED_LINES = 10
"""Most log lines per minute about connections that were not admitted."""


class LogLine(NamedTuple):
    """One line for the log."""

    level: str
    text: str


class Effects:
    """The work that calls into the core have left for the driver."""

    __slots__ = (
        "ack_delay",
        "acks_due",
        "acks_due_at",
        "events",
        "is_blocked",
        "log_lines",
        "now",
        "room",
        "timers",
        "to_read",
        "to_wake",
        "to_write",
        "unauthenticated",
    )

    def __init__(self, ack_delay: float, wall: float) -> None:
        self.now = 0.0
        """The time of the current call."""
        self.to_write: list[Connection] = []
        """Connections with something to write, or to close."""
        self.to_read: list[Connection] = []
        """Connections with held bytes to process now: call `EndpointCore.received` with ``b""``."""
        self.to_wake: list[WaitQueue] = []
        self.is_blocked = False
        """Do messages in the backlog wait until there is room in the mailbox?"""
        self.room = WaitQueue()
        """Woken when there is room, or something to decode."""
        self.log_lines: list[LogLine] = []
        self.events = EventQueue(wall)
        self.timers = Timers()
        self.acks_due: dict[Route, None] = {}
        """Routes with an acknowledgement that may wait for the next write."""
        self.acks_due_at = NEVER
        self.ack_delay = ack_delay
        """Seconds that an acknowledgement may wait for a write that can carry it."""
        self.unauthenticated = UnauthenticatedLog()

    def emit(
        self,
        kind: EventKind,
        peer: Peer | None,
        error: Exception | None = None,
        receipt: OutgoingMessage | None = None,
        count: int = 1,
    ) -> None:
        """Emit an event. It is dropped if there is no callback for its kind."""
        events = self.events
        if kind in events.listening:
            events.add(kind, peer, error, receipt, count, self.now)
            self.to_wake.append(events.changed)

    def room_again(self) -> None:
        """There may be room in the mailbox again: go on with the backlog."""
        self.is_blocked = False
        self.to_wake.append(self.room)

    def log(self, level: str, text: str) -> None:
        """Write a line to the log."""
        self.log_lines.append(LogLine(level, text))

    def log_unauthenticated(self, text: str, level: str = "warning") -> None:
        """Log a connection that was not admitted: ten lines per minute, then only a count.

        Unauthenticated peers must not be able to fill the log or to delay other peers.
        """
        self.log_lines += self.unauthenticated.lines(text, level, self.now)

    def next_timer(self) -> float:
        """When the next timer of the core is due; infinity if there is none."""
        soonest = self.timers.soonest
        return soonest if soonest < self.acks_due_at else self.acks_due_at

    def flush_acks(self) -> None:
        """Write all acknowledgements that are due."""
        for route in self.acks_due:
            if route.ack_due and route.link is not None:
                route.ack_due = ACK_DUE_NOW
                self.to_write.append(route.link)
        self.acks_due.clear()
        self.acks_due_at = NEVER


class UnauthenticatedLog:
    """Limits the log lines about connections that were not admitted."""

    __slots__ = ("count", "until")

    def __init__(self) -> None:
        self.count = 0
        """Lines in this minute, including those that were not logged."""
        self.until = 0.0

    def lines(self, text: str, level: str, now: float) -> list[LogLine]:
        """Return the lines to log now."""
        lines: list[LogLine] = []
        if now >= self.until:
            if self.count > UNAUTHENTICATED_LINES:
                more = self.count - UNAUTHENTICATED_LINES
                lines.append(
                    LogLine("warning", f"{more} more connections were not admitted in the minute after that")
                )
            self.until, self.count = now + 60.0, 0
        self.count += 1
        if self.count <= UNAUTHENTICATED_LINES:
            lines.append(LogLine(level, text))
        return lines


class Route:
    """Leads from a session to the connection that carries it now, if there is one."""

    __slots__ = ("ack_due", "effects", "link")

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.link: Connection | None = None
        self.ack_due = ACK_NOT_DUE

    def write_soon(self) -> None:
        """Mark the connection: it has something to write."""
        if self.link is not None:
            self.effects.to_write.append(self.link)

    def request_ack(self, urgency: int) -> None:
        """Note that an acknowledgement is due, or has become more urgent, until `ack_written` is called."""
        self.ack_due = urgency
        effects = self.effects
        if urgency == ACK_DUE_NOW:
            if self.link is not None:
                effects.to_write.append(self.link)
        elif self not in effects.acks_due:
            if not effects.acks_due:
                effects.acks_due_at = effects.now + effects.ack_delay
            effects.acks_due[self] = None

    def ack_written(self) -> None:
        """An acknowledgement was written: none is due any more."""
        self.ack_due = ACK_NOT_DUE
        effects = self.effects
        if effects.acks_due:
            effects.acks_due.pop(self, None)
            if not effects.acks_due:
                effects.acks_due_at = NEVER

"""What the driver must do after a call into the core: write connections, wake waiters, emit events, log.

All parts of the core of an endpoint add to the same `Effects` object. `Route` leads from a session to the
connection that carries it now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from linkbox.core.channel import OutgoingMessage
from linkbox.core.connection import Connection
from linkbox.core.event_queue import DATA, PART, EventQueue
from linkbox.core.log_limit import MOST_LINES, LogLimit
from linkbox.core.settings import Counters, nobody_listens
from linkbox.core.timers import NEVER, Timers
from linkbox.core.wait_queue import WaitQueue
from linkbox.events import EventKind, Peer

ACK_NOT_DUE, ACK_DUE_SOON, ACK_DUE_NOW = 0, 1, 2
"""Urgency of an acknowledgement: none is due; with the next write, or after a delay; at the next flush."""
UNAUTHENTICATED, REJECTED = "connections were not admitted", "messages were rejected"
"""Kinds of log lines that peers can cause: see `Effects.log_limited`."""
REPORTED = {"info": ("lines about connections", 100), "debug": ("lines about details", 1000)}
"""The kinds of lines that `Effects.reports` limits, and how many of each are written in a minute."""
Field = str | int | float
"""The value of a field of a log record."""
NO_FIELDS: Mapping[str, Field] = {}


class LogLine(NamedTuple):
    """One line for the log."""

    level: str
    text: str
    event: str = ""
    """What has happened, as one word for programs that read logs."""
    peer: Peer | None = None
    fields: Mapping[str, Field] = NO_FIELDS
    """More fields of the log record."""


class Effects:
    """The work that calls into the core have left for the driver."""

    __slots__ = (
        "_limited",
        "ack_delay",
        "acks_due",
        "acks_due_at",
        "events",
        "failures",
        "frames",
        "is_blocked",
        "is_logged",
        "log_lines",
        "now",
        "room",
        "timers",
        "to_read",
        "to_wake",
        "to_write",
    )

    def __init__(
        self, ack_delay: float, wall: float, counters: Counters, most_data_events: int | None = None
    ) -> None:
        self.now: float = 0.0
        """The time of the current call."""
        self.to_write: list[Connection] = []
        """Connections with something to write, or to close."""
        self.to_read: deque[Connection] = deque()
        """Connections with held bytes to process, in turns: call `EndpointCore.received` with ``b""``."""
        self.frames: int = 0
        """The frames that were processed since the last turn that had something `to_read`."""
        self.to_wake: list[WaitQueue] = []
        self.is_blocked: bool = False
        """Do messages in the backlog wait until there is room in the mailbox?"""
        self.room: WaitQueue = WaitQueue()
        """Woken when there is room, or something to decode."""
        self.log_lines: list[LogLine] = []
        self.is_logged: Callable[[str], bool] = nobody_listens
        """Does anybody read log lines of this level?"""
        self.events: EventQueue = EventQueue(wall, counters, most_data_events)
        self.timers: Timers = Timers()
        self.acks_due: dict[Route, None] = {}
        """Routes with an acknowledgement that may wait for the next write."""
        self.acks_due_at: float = NEVER
        self.ack_delay: float = ack_delay
        """Seconds that an acknowledgement may wait for a write that can carry it."""
        self.failures: list[tuple[object, BaseException]] = self.timers.failures
        """Unexpected errors that the core has survived: what has failed, and the exception."""
        self._limited: dict[str, LimitedLines] = {}
        """Log lines that peers can cause, by their kinds."""

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
            if kind is DATA or kind is PART or receipt is not None or peer is None:
                events.add(kind, peer, error, receipt, count, self.now)
                self.to_wake.append(events.changed)
            else:
                self.emit_limited(kind, peer, error)

    def emit_limited(
        self, kind: EventKind, peer: Peer, error: Exception | None, is_promised: bool = False
    ) -> bool:
        """Emit an event that a peer causes and that no credit limits. False if too many wait already.

        ``is_promised``: in any case, because it belongs to one that was emitted.
        """
        events = self.events
        if kind not in events.listening:
            return True
        if not is_promised and not events.has_room():
            if not events.is_overflowing:
                events.is_overflowing = True
                self.log(
                    "warning",
                    f"{events.others} events wait behind a callback that blocks: more of connections are "
                    "dropped (see statistics().events_dropped); peers() has who is connected",
                )
            return False
        events.add_limited(kind, peer, error, self.now)
        self.to_wake.append(events.changed)
        return True

    def room_again(self) -> None:
        """There may be room in the mailbox again: go on with the backlog."""
        self.is_blocked = False
        self.to_wake.append(self.room)

    def log(
        self,
        level: str,
        text: str,
        event: str = "",
        peer: Peer | None = None,
        fields: Mapping[str, Field] = NO_FIELDS,
    ) -> None:
        """Write a line to the log."""
        self.log_lines.append(LogLine(level, text, event, peer, fields))

    def reports(self, level: str) -> bool:
        """Should a line about the course of things be written? Ask before the text is made.

        False if nobody reads lines of this level, or if too many were written in this minute.
        """
        return self.is_logged(level) and self.may_log(*REPORTED[level], level)

    def may_log(self, kind: str, most: int = MOST_LINES, level: str = "warning") -> bool:
        """May a line about something that a peer has caused be logged now? If not, it is counted.

        Ten (``most``) lines a minute of each kind, then only a count: peers must be able neither to fill the
        log nor to delay other peers. Ask before the text is made, which costs time.
        """
        lines = self._limited.get(kind)
        if lines is None:
            lines = self._limited[kind] = LimitedLines(self, kind, most, level)
        return lines.allows()

    def log_limited(self, kind: str, text: str, level: str = "warning", event: str = "") -> None:
        """Log a line, if `may_log`."""
        if self.may_log(kind):
            self.log(level, text, event)

    def report_suppressed(self) -> None:
        """The endpoint stops: log how many lines were left out."""
        for lines in self._limited.values():
            lines.report()

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


class LimitedLines:
    """The log lines of one kind that peers cause: ten a minute, and a count when the minute is over."""

    __slots__ = ("_effects", "_level", "_limit", "_what", "timer_at")

    def __init__(self, effects: Effects, what: str, most: int = MOST_LINES, level: str = "warning") -> None:
        self._effects = effects
        self._limit = LogLimit(most)
        self._level = level
        """The level of the count."""
        self._what = what
        """What the lines are about, for the count."""
        self.timer_at: float = NEVER

    def allows(self) -> bool:
        """May one more line be logged? If not, it is counted."""
        effects, limit = self._effects, self._limit
        if limit.allows(effects.now):
            self.report()
            return True
        effects.timers.schedule(self, limit.until)
        return False

    def report(self) -> None:
        """Log how many lines were left out."""
        suppressed = self._limit.take_suppressed()
        if suppressed:
            self._effects.log(self._level, f"{suppressed} more {self._what} in that minute")

    def next_timer(self) -> float:
        """When the count is logged."""
        return self._limit.until if self._limit.suppressed else NEVER

    def handle_timer(self, now: float) -> None:
        """The minute is over."""
        if now >= self._limit.until:
            self.report()


class Route:
    """Leads from a session to the connection that carries it now, if there is one."""

    __slots__ = ("ack_due", "effects", "link")

    def __init__(self, effects: Effects) -> None:
        self.effects: Effects = effects
        self.link: Connection | None = None
        self.ack_due: int = ACK_NOT_DUE

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

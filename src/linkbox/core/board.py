"""What a hub leaves to be done: links to write, boxes that changed, events, timers, lines for the log."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from linkbox.core.link import Link
from linkbox.core.mailbox import Box, MailboxState
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Note, Notice, Settings
from linkbox.core.timers import Timed, Timers
from linkbox.events import EventKind, Peer

if TYPE_CHECKING:
    from linkbox.core.journal import Journal

ACK_DELAY = 0.005
"""Seconds an acknowledgement may wait for a write to ride on."""
STRANGER_LINES = 10
"""Lines a minute in the log about those who do not come in."""
SLOW_ACK_DELAY = 0.5
"""The same where nobody waits for it: an ask is acknowledged by its answer."""


class Board:
    """The part of a hub that everything else in it writes on."""

    def __init__(self, settings: Settings, mailbox: MailboxState) -> None:
        self.settings = settings
        self.pattern = settings.pattern
        self.limits = settings.limits
        self.counters = settings.counters
        self.mailbox = mailbox
        self.links: set[Link] = set()
        self.sessions: dict[str, Session] = {}
        self.dirty: list[Link] = []
        self.unread: list[Link] = []
        """Links that hold bytes which may be understood now: call `receive` with ``b""`` for each."""
        self.changed: list[Box] = []
        self.box = Box()
        """Changes when sessions or links come and go."""
        self.events: deque[Notice] = deque()
        self.events_box = Box()
        self.pending_events = 0
        """Events nobody was called with yet, of any kind: they count as waiting messages."""
        self.listening: set[EventKind] = set()
        self.notes: list[Note] = []
        self.strangers_noted = 0
        """How many did not come in during this minute."""
        self.strangers_until = 0.0
        self.undelivered = 0
        """Messages whose fate is not known to be good, although they were accepted for sending."""
        self.stopping = False
        self.timers = Timers()
        self.paused: list[Session] = []
        """Over plain framings: those whose links are not read, because the mailbox is full."""
        self.owing: dict[Session, None] = {}
        self.ack_due = NEVER
        self.ack_delay = SLOW_ACK_DELAY if self.pattern.slow_ack else ACK_DELAY
        self.now = 0.0
        self.journal: Journal | None = None
        """What is to be on disk, where there is a store."""
        self.knows_since = 0.0
        """Server: since then no session was forgotten whose peer may not know that it is over."""
        self.incarnation = settings.entropy(16).hex()

    def flush_soon(self, session: Session) -> None:
        """The session has something to write."""
        if session.link is not None:
            self.dirty.append(session.link)

    # -- acknowledging ------------------------------------------------------------------------------------

    def on_ack_owed(self, session: Session) -> None:
        """A session owes its peer an acknowledgement."""
        if session.ack_owed == 2:
            self.flush_soon(session)
        elif session not in self.owing:
            if not self.owing:
                self.ack_due = self.now + self.ack_delay
            self.owing[session] = None

    def on_ack_told(self, session: Session) -> None:
        """It was written along with something else: nothing is due any more."""
        self.owing.pop(session, None)
        if not self.owing:
            self.ack_due = NEVER

    def flush_acks(self) -> None:
        """Write all acknowledgements that are owed: nobody was woken, so nobody will write soon."""
        for session in self.owing:
            if session.ack_owed and session.link is not None:
                session.ack_owed = 2
                self.dirty.append(session.link)
        self.owing.clear()
        self.ack_due = NEVER

    # -- events, timers, the log ---------------------------------------------------------------------------

    def emit(
        self,
        kind: EventKind,
        peer: Peer | None,
        error: Exception | None = None,
        receipt: Any = None,
        count: int = 1,
    ) -> None:
        """Something callbacks may want to know. Costs nothing when nobody listens."""
        if kind in self.listening:
            self.events.append((kind, peer, error, receipt, count, self.now + self.settings.wall))
            self.pending_events += count
            self.changed.append(self.events_box)

    def forget_data_events(self) -> None:
        """Nobody listens any more: what is waiting rings when somebody does again."""
        gone = sum(each[4] for each in self.events if each[0] is EventKind.DATA)
        self.events = deque(each for each in self.events if each[0] is not EventKind.DATA)
        self.events_done(gone)

    def events_done(self, count: int) -> None:
        """Callbacks have been called for so many events."""
        was_full = self.pending_events >= self.limits.mailbox_messages
        self.pending_events = max(0, self.pending_events - count)
        if was_full and self.pending_events < self.limits.mailbox_messages:
            for session in self.sessions.values():
                session.owe_ack(2)

    def note(self, level: str, text: str) -> None:
        """A line for the log."""
        self.notes.append(Note(level, text))

    def note_stranger(self, text: str, level: str = "warning") -> None:
        """The same about somebody who does not come in: whoever knocks decides how often. Ten a minute, and
        how many more there were, so that a flood neither fills the log nor takes the time of others."""
        if self.now >= self.strangers_until:
            if self.strangers_noted > STRANGER_LINES:
                more = self.strangers_noted - STRANGER_LINES
                self.note("warning", f"{more} more did not come in during the minute after the last line")
            self.strangers_until, self.strangers_noted = self.now + 60.0, 0
        self.strangers_noted += 1
        if self.strangers_noted <= STRANGER_LINES:
            self.note(level, text)

    def schedule(self, target: Timed, when: float) -> None:
        """See to it that ``target.handle_timer(now)`` is called then, or earlier."""
        self.timers.schedule(target, when)

    def next_timer(self) -> float:
        """When `handle_timers` should be called next; infinity: nothing is due ever."""
        soonest = self.timers.soonest
        return soonest if soonest < self.ack_due else self.ack_due

    def handle_timers(self, now: float) -> None:
        """Do all that is due."""
        self.now = now
        if now >= self.ack_due:
            self.flush_acks()
        self.timers.handle(now)

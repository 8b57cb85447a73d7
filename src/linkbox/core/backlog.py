"""The backlog: messages that have arrived and are not decoded yet, and which of them to decode next.

A peer chooses how long its messages take to decode, and how much memory they take then. Therefore:

- **In turns.** Peers take turns with one *slice* each (`Arrival.slices`), so none waits for all messages of
  another one; those that had nothing here come first. Drivers decode one group at a time, without the lock,
  and read in between.
- **Not before there is room.** While the mailbox has no room for a peer, its messages stay here, as the bytes
  that arrived, of which credit limits the number. They are not acknowledged either. The peers of plain
  framings have no credit: their connections are not read while they have much here.
"""

from __future__ import annotations

from collections import deque

from linkbox.core.arrival import SLICE_BYTES, SLICE_MESSAGES, Arrival
from linkbox.core.context import Context
from linkbox.core.paused_links import PLAIN_BYTES
from linkbox.core.session import Session


class Backlog:
    """The messages of all sessions that are not decoded, in order for each session."""

    __slots__ = ("_blocked", "_context", "_never_waits", "_new", "_old", "queues")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.queues: dict[Session, deque[Arrival]] = {}
        """What is here, for each session that has something here."""
        self._new: deque[Session] = deque()
        """The sessions that had nothing here before."""
        self._old: deque[Session] = deque()
        """The sessions that take turns."""
        self._blocked: list[Session] = []
        """The sessions for which the mailbox had no room."""
        # Responses have callers that wait for them; the dropping policies make room by themselves.
        is_answered = context.pattern.asks and context.is_client
        self._never_waits = is_answered or context.mailbox.overflow != "block"

    def is_ready(self) -> bool:
        """Is there something to decode now?"""
        is_free = bool(self._blocked) and not self._context.effects.is_blocked
        return is_free or bool(self._old) or bool(self._new)

    def next(self, new: deque[Arrival]) -> list[Arrival]:
        """Add what has arrived. Return what to decode now, and to deliver in this order."""
        if not self.queues and len(new) == 1:  # Usually so, and then it costs little.
            arrival = new[0]
            if len(arrival.payloads) < 2 and not arrival.session.receiving.waiting:
                new.clear()
                return [arrival]
        self.add(new)
        return self._take()

    def add(self, new: deque[Arrival]) -> None:
        """Add what has arrived; ``new`` is empty afterwards."""
        queues, context = self.queues, self._context
        while new:
            arrival = new.popleft()
            session = arrival.session
            queue = queues.get(session)
            if queue is None:
                queue = queues[session] = deque()
                self._new.append(session)
            slices = arrival.slices()
            queue.extend(slices)
            context.mailbox.undecoded += sum(each.size for each in slices)
            if context.paused_links is not None and session.receiving.undecoded() > PLAIN_BYTES:
                context.paused_links.pause(session.receiving, session.route)

    def put_back(self, group: list[Arrival]) -> None:
        """Take back what `next` has returned and what was not decoded: it comes first again."""
        for arrival in reversed(group):
            queue = self.queues.get(arrival.session)
            if queue is None:
                queue = self.queues[arrival.session] = deque()
                self._new.appendleft(arrival.session)
            queue.appendleft(arrival)
            self._context.mailbox.undecoded += arrival.size

    def _take(self) -> list[Arrival]:
        """The next group: about one slice of new sessions, and one of old ones."""
        if self._blocked and not self._context.effects.is_blocked:
            self._old += self._blocked
            self._blocked.clear()
        group: list[Arrival] = []
        old = len(self._old)
        self._take_from(self._new, group)
        self._take_from(self._old, group, old)
        return group

    def _take_from(self, sessions: deque[Session], group: list[Arrival], most: int = 1 << 30) -> None:
        size = count = 0
        while sessions and most and size < SLICE_BYTES and count < SLICE_MESSAGES:
            most -= 1
            session = sessions.popleft()
            queue = self.queues[session]
            if session.error is not None and not session.is_plain:
                self._forget(session)
                continue
            if queue[0].payloads and self._must_wait(session):
                self._blocked.append(session)
                self._context.effects.is_blocked = True
                continue
            arrival = queue.popleft()
            group.append(arrival)
            size += arrival.size
            count += len(arrival.payloads)
            self._context.mailbox.undecoded -= arrival.size
            if queue:
                self._old.append(session)
            else:
                del self.queues[session]

    def _forget(self, session: Session) -> None:
        """The session is closed. Its peer knows that these messages were not acknowledged."""
        self._context.mailbox.undecoded -= sum(each.size for each in self.queues.pop(session))

    def _must_wait(self, session: Session) -> bool:
        """Is there no room for messages of this session? There always is for one."""
        receiving, mailbox = session.receiving, self._context.mailbox
        if self._never_waits or not (receiving.waiting or receiving.storing):
            return False
        return mailbox.is_full(receiving) or receiving.storing >= mailbox.limits.mailbox_bytes

"""The backlog: messages that have arrived and are not decoded yet, and which of them to decode next.

A peer chooses how long its messages take to decode, and how much memory they take then. Therefore:

- **In turns.** Peers take turns with one *slice* each (`Arrival.slices`), so none waits for all messages of
  another one. Drivers decode one group at a time, read in between, and decode without the lock.
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

    __slots__ = ("_blocked", "_context", "_never_waits", "_queues", "_ready")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queues: dict[Session, deque[Arrival]] = {}
        self._ready: deque[Session] = deque()
        """The sessions that take turns."""
        self._blocked: list[Session] = []
        """The sessions for which the mailbox had no room."""
        # Responses have callers that wait for them; the dropping policies make room by themselves.
        is_answered = context.pattern.asks and context.is_client
        self._never_waits = is_answered or context.mailbox.overflow != "block"

    def is_ready(self) -> bool:
        """Is there something to decode now?"""
        return bool(self._ready) or (bool(self._blocked) and not self._context.effects.is_blocked)

    def next(self, new: deque[Arrival]) -> list[Arrival]:
        """Add what has arrived. Return what to decode now, and to deliver in this order."""
        if not self._queues and len(new) == 1:  # Usually so, and then it costs little.
            arrival = new[0]
            if len(arrival.payloads) < 2 and not arrival.session.receiving.waiting:
                new.clear()
                return [arrival]
        self.add(new)
        return self._take()

    def add(self, new: deque[Arrival]) -> None:
        """Add what has arrived; ``new`` is empty afterwards."""
        queues, context = self._queues, self._context
        while new:
            arrival = new.popleft()
            session = arrival.session
            queue = queues.get(session)
            if queue is None:
                queue = queues[session] = deque()
                self._ready.append(session)
            slices = arrival.slices()
            queue.extend(slices)
            context.mailbox.undecoded += sum(each.size for each in slices)
            if context.paused_links is not None and session.receiving.undecoded() > PLAIN_BYTES:
                context.paused_links.pause(session.receiving, session.route)

    def _take(self) -> list[Arrival]:
        effects, mailbox = self._context.effects, self._context.mailbox
        if self._blocked and not effects.is_blocked:
            self._ready += self._blocked
            self._blocked.clear()
        group: list[Arrival] = []
        size = count = 0
        while self._ready and size < SLICE_BYTES and count < SLICE_MESSAGES:
            session = self._ready.popleft()
            queue = self._queues[session]
            if session.error is not None and not session.is_plain:
                mailbox.undecoded -= sum(each.size for each in queue)
                del self._queues[session]  # The sender knows that they were not acknowledged.
                continue
            if queue[0].payloads and self._must_wait(session):
                self._blocked.append(session)
                effects.is_blocked = True
                continue
            arrival = queue.popleft()
            group.append(arrival)
            size += arrival.size
            count += len(arrival.payloads)
            mailbox.undecoded -= arrival.size
            if queue:
                self._ready.append(session)
            else:
                del self._queues[session]
        return group

    def _must_wait(self, session: Session) -> bool:
        """Is there no room for messages of this session? There always is for one."""
        receiving, mailbox = session.receiving, self._context.mailbox
        if self._never_waits or not (receiving.waiting or receiving.storing):
            return False
        return mailbox.is_full(receiving) or receiving.storing >= mailbox.limits.mailbox_bytes

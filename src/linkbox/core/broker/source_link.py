"""The server's side of P2M over a broker, for one client: messages that are taken are acknowledged."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import Final

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.broker import stream_messages
from linkbox.core.broker.link import BrokerLink
from linkbox.core.broker.stream_messages import Acknowledge, Stored, Taken
from linkbox.core.broker.subjects import is_inbox
from linkbox.core.context import Context
from linkbox.core.link import LinkOwner
from linkbox.core.outgoing import add_range
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wire.decoder import too_large

WORKING_EVERY: Final = 3.0
"""Seconds between two notes to the broker that a message still waits: it would give it to another server."""
IDLE: Final = 60.0
"""Seconds that the session of a client is kept after its last message was taken."""

Order = Acknowledge | Taken


class Waiting:
    """What the messages of all clients that wait to be taken amount to."""

    __slots__ = ("count", "given_back", "nbytes", "units")

    def __init__(self) -> None:
        self.given_back: list[Stored] = []
        """What was not taken when this server stopped; not in order."""
        self.count: int = 0
        """Messages of the stream."""
        self.units: int = 0
        """Messages of clients; a pack has several."""
        self.nbytes: int = 0

    def add(self, pending: Pending, sign: int = 1) -> None:
        """Count one; with -1: no more."""
        self.count += sign
        self.units += sign * len(pending.stored.parts)
        self.nbytes += sign * pending.nbytes


class Pending:
    """A message of the stream that waits to be taken."""

    __slots__ = ("last", "nbytes", "stored")

    def __init__(self, stored: Stored, last: int, nbytes: int) -> None:
        self.stored: Stored = stored
        self.last: int = last
        """The number of its last message here."""
        self.nbytes: int = nbytes


class SourceLink(BrokerLink):
    """The messages of one client, from the stream."""

    __slots__ = ("_by_place", "_idle_at", "_orders", "_pending", "_seen", "_waiting", "_working_at")

    def __init__(
        self,
        owner: LinkOwner,
        context: Context,
        address: str,
        now: float,
        session: Session,
        waiting: Waiting,
    ) -> None:
        super().__init__(owner, context, address, now, session)
        self._waiting = waiting
        self._pending: deque[Pending] = deque()
        self._by_place: dict[int, Pending] = {}
        self._seen: list[tuple[int, int]] = []
        """Numbers of the client that have arrived here; the highest thousand ranges of them."""
        self._orders: list[Order] = []
        self._working_at = NEVER
        self._idle_at = NEVER
        session.receiving.grant_endless()
        session.receiving.ack_each = True

    def receive_stored(self, stored: Stored, now: float) -> Arrival | None:
        """A message of the stream has arrived. Returns what the application has not had from here."""
        session = self.session
        assert session is not None
        self._idle_at = NEVER
        known = self._by_place.get(stored.place)
        if known is not None:  # It still waits here, and is acknowledged when it is taken.
            known.stored = stored
            return None
        parts = self._unseen(stored)
        if not parts:
            self._orders.append(Acknowledge(stored.reply_to, stream_messages.ACK))
            self.context.effects.to_write.append(self)
            return None
        limit, size = self.context.limits.message, sum(map(len, parts))
        payloads: list[Payload] = [
            each if len(each) <= limit else too_large(len(each), limit) for each in parts
        ]
        receiving = session.receiving
        receiving.add_units(len(parts), size, size)
        pending = Pending(stored, receiving.arrived, size)
        self._pending.append(pending)
        self._by_place[stored.place] = pending
        self._waiting.add(pending)
        if self._working_at == NEVER:
            self._working_at = now + WORKING_EVERY
            self.schedule(self._working_at)
        arrival = Arrival(session, payloads, receiving.arrived)
        arrival.has_errors = any(len(each) > limit for each in parts)
        arrival.redelivered = stored.is_again
        return arrival

    def _unseen(self, stored: Stored) -> list[bytes]:
        """The messages that have not arrived here before."""
        if not stored.last:
            return stored.parts
        first = stored.last - len(stored.parts) + 1
        seen = self._seen
        found = []
        for number, part in enumerate(stored.parts, first):
            at = bisect_right(seen, number, key=itemgetter(0))
            if not at or seen[at - 1][1] < number:
                found.append(part)
        add_range(seen, first, stored.last)
        return found

    def take_orders(self, now: float) -> list[Order]:
        """What the network must send to the broker and to the client now."""
        session = self.carried(now)
        if session is not None:
            session.route.ack_written()
            self._acknowledge(session.receiving.taken)
            if not self._pending and self._idle_at == NEVER:
                self._idle_at = now + IDLE
                self.schedule(self._idle_at)
        orders, self._orders = self._orders, []
        return orders

    def _acknowledge(self, taken: int) -> None:
        to, ranges = "", []
        while self._pending and self._pending[0].last <= taken:
            pending = self._pending.popleft()
            stored = pending.stored
            self._waiting.add(pending, -1)
            del self._by_place[stored.place]
            self._orders.append(Acknowledge(stored.reply_to, stream_messages.ACK))
            if stored.last and is_inbox(stored.taken_to):
                to = stored.taken_to
                ranges.append(f"{stored.last - len(stored.parts) + 1}-{stored.last}")
        if not self._pending:
            self._working_at = NEVER
        if ranges:
            self._orders.append(Taken(to, " ".join(ranges)))

    def silence_deadline(self) -> float:
        return self._working_at if self._pending else self._idle_at

    def on_silence(self, now: float) -> None:
        if not self._pending:
            assert self.session is not None
            self.session.owner.close_session(self.session, None)
            return
        for each in self._pending:
            self._orders.append(Acknowledge(each.stored.reply_to, stream_messages.WORKING))
        self._working_at = now + WORKING_EVERY
        self.context.effects.to_write.append(self)

    def abort(self, error: Exception | None) -> None:
        """Give back what was not taken: another server gets it."""
        if not self.closed and self.session is not None:
            self._acknowledge(self.session.receiving.taken)
            for each in self._pending:
                self._waiting.add(each, -1)
                self._waiting.given_back.append(each.stored)
            self._pending.clear()
            self._by_place.clear()
            self.context.mailbox.give_back(self.session.receiving)
        super().abort(error)

"""What becomes of messages that have arrived and are decoded: stored, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linkbox.core import frames
from linkbox.core.board import Board
from linkbox.core.decoding import is_error
from linkbox.core.journal import Inflow
from linkbox.core.link import Arrival
from linkbox.core.mailbox import Source
from linkbox.core.refusals import refusal_of
from linkbox.core.session import Session
from linkbox.core.units import add_range
from linkbox.errors import LinkboxError, MailboxFull
from linkbox.events import EventKind

DATA = EventKind.DATA


class Delivering(Board):
    """The part of a hub that fills its mailbox."""

    def deliver(self, arrival: Arrival, values: Sequence[Any], now: float) -> None:
        """Store decoded messages. What could not be decoded stands in ``values`` as an error."""
        self.now = now
        session = arrival.session
        record = session.record
        if record is None:
            if arrival.mark > session.processed_bytes:
                session.processed_bytes = arrival.mark
            known = session.source.processed
        else:
            known = record.received - record.in_base
        if session.error is not None and not session.is_plain:
            return  # never acknowledged: its sender knows
        if self.pattern.asks:
            self._deliver_ask(arrival, values, now)
        elif arrival.last <= known and arrival.payloads:
            pass  # delivered already, when something struck
        elif self.journal is not None:
            self.journal.add(Inflow(record, arrival, values, now + self.settings.wall))
        else:
            self.deliver_all(arrival, values, now + self.settings.wall)

    def deliver_all(self, arrival: Arrival, values: Sequence[Any], at: float) -> None:
        """Store them in the mailbox: with a store, once they are on disk."""
        session, payloads = arrival.session, arrival.payloads
        if arrival.mark > session.processed_bytes:
            session.processed_bytes = arrival.mark
        if not payloads:
            session.source.processed = arrival.last
        elif self.mailbox.overflow == "block" and not arrival.has_errors:
            nbytes = len(payloads[0]) if len(payloads) == 1 else sum(map(len, payloads))
            self._store(session, values, arrival.last, nbytes, at)
        else:
            first = arrival.last - len(values) + 1
            for number, value in enumerate(values, first):
                self._deliver_one(session, value, number, payloads[number - first], at)
        if session.is_plain:
            if self.mailbox.is_full(session.source):
                self._pause(session)
        elif not session.ack_owed or session.source.eager:
            session.owe_ack(1)
        if session.peer_end is not None:
            self.check_end(session)

    def _store(self, session: Session, values: Sequence[Any], last: int, nbytes: int, at: float) -> None:
        count = len(values)
        session.messages_received += count
        session.bytes_received += nbytes
        mailbox = self.mailbox
        mailbox.put(session.source, values, last, nbytes, at)
        if mailbox.box.waiters:
            self.changed.append(mailbox.box)
        if DATA in self.listening:
            self.emit(DATA, session.peer, count=count)

    def _deliver_one(self, session: Session, value: Any, number: int, payload: Any, at: float) -> None:
        """One message that may be bad, or may find no room."""
        source = session.source
        if is_error(value):
            source.processed = number
            self.reject(session, number, value)
            return
        nbytes = len(payload)
        if self.mailbox.overflow == "block":
            self._store(session, (value,), number, nbytes, at)
            return
        stored, gone = self.mailbox.put_bounded(source, value, number, nbytes, at)
        for victim, victim_number in gone:
            self._tell_dropped(victim, victim_number)
            self.emit(EventKind.OVERFLOW, victim.peer)
        if stored:
            session.messages_received += 1
            session.bytes_received += nbytes
            self.changed.append(self.mailbox.box)
            self.emit(DATA, session.peer)
        else:
            error = MailboxFull(f"the mailbox is full (overflow={self.mailbox.overflow!r})")
            self.emit(EventKind.OVERFLOW, session.peer, error)
            self._send_reject(session, frames.encode_reject(number, "full", str(error)))

    def _tell_dropped(self, source: Source, number: int) -> None:
        session = self.sessions.get(source.peer.id)
        if session is not None and session.source is source and not session.is_plain:
            add_range(session.drops, number, number)
            add_range(session.untold, number, number)
            self.flush_soon(session)

    def reject(self, session: Session, number: int, error: LinkboxError) -> None:
        """A message is refused, by name; its sender is told, and the stream goes on."""
        self.counters.rejected += 1
        if session.is_worth_a_line():
            self.note("warning", f"a message from {session.peer} was rejected: {error}")
        self.emit(EventKind.ERROR, session.peer, error)
        if session.record is None:
            self._send_reject(session, refusal_of(number, error))
        elif session.link is not None:
            session.link.send_control(refusal_of(number, error))  # the record has kept it already

    def _send_reject(self, session: Session, frame: bytes) -> None:
        if not session.is_plain:
            session.keep_refusals((frame,))
            if session.link is not None:
                session.link.send_control(frame)

    # What the rest of the hub does with it.

    def check_end(self, session: Session) -> None:
        """Has the peer ended, and is all it sent in the mailbox?"""
        raise NotImplementedError

    def _pause(self, session: Session) -> None:
        """Over a plain framing: do not read on until there is room."""
        raise NotImplementedError

    def _deliver_ask(self, arrival: Arrival, values: Sequence[Any], now: float) -> None:
        """A message of an ask, or an answer."""
        raise NotImplementedError

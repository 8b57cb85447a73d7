"""The table of an endpoint's sessions: opens and closes them, and handles what they report."""

from __future__ import annotations

import msgspec

from linkbox.core import reports
from linkbox.core.asks_client import ClientAsks
from linkbox.core.asks_server import ServerAsks
from linkbox.core.channel import OutgoingMessage, Unit
from linkbox.core.context import Context
from linkbox.core.durable.journal import Journal
from linkbox.core.durable.record import Record
from linkbox.core.ending import end_has_arrived, is_finished
from linkbox.core.link import Link, LinkOwner
from linkbox.core.outgoing import messages_of
from linkbox.core.session import Session, SessionOwner, never_connected
from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire import frames
from linkbox.errors import EndOfData, PeerLost, SessionLost
from linkbox.events import EventKind, Peer


class Side(LinkOwner):
    """What differs between servers and clients. `ServerSide` and `ClientSide` implement it."""

    __slots__ = ()

    def session_acked(self, session: Session) -> None:
        """The peer has acknowledged something, or granted more credit."""

    def peer_ended(self, session: Session) -> None:
        """The peer has ended, and everything that it sent is in the mailbox."""

    def stays_open(self, session: Session) -> bool:
        """The peer has ended: may the application still send to it?"""
        return False

    def session_up(self, session: Session) -> None:
        """A session has a connection."""

    def ask_closed(self, session: Session) -> None:
        """A request of this session has a response, has failed or was cancelled."""

    def session_dropped(self, session: Session, error: Exception) -> None:
        """The connection of a session broke: keep the session, connect again, or close it."""
        raise NotImplementedError

    def session_due(self, session: Session, now: float) -> None:
        """The time ``session.due_at`` has come."""
        raise NotImplementedError

    def session_closing(self, session: Session, is_known: bool) -> None:
        """A session is about to be closed. ``is_known``: it is not forgotten without the peer knowing."""

    def session_closed(self, session: Session, error: Exception | None) -> None:
        """A session was closed."""

    def goes_on(self, session: Session) -> bool:
        """Will another session follow this one, which its peer has ended?"""
        return False


class SessionTable(SessionOwner):
    """All sessions of an endpoint, by their ids."""

    __slots__ = (
        "by_id",
        "changed",
        "client_asks",
        "context",
        "journal",
        "kept",
        "server_asks",
        "side",
        "undelivered",
    )

    def __init__(self, context: Context, client_asks: ClientAsks, server_asks: ServerAsks) -> None:
        self.context: Context = context
        self.client_asks: ClientAsks = client_asks
        self.server_asks: ServerAsks = server_asks
        self.side: Side = Side()
        """Set once, by the core that owns the table."""
        self.by_id: dict[str, Session] = {}
        self.journal: Journal | None = None
        """The journal, if there is a store."""
        self.changed: WaitQueue = WaitQueue()
        """Woken when sessions or links are added or removed."""
        self.undelivered: int = 0
        """The number of messages accepted for sending that are not known to have arrived."""
        self.kept: int = 0
        """How many of them the store keeps for the next start."""

    # -- opening ---------------------------------------------------------------------------------------

    def open(self, peer: Peer) -> Session:
        """Add the session of a new conversation."""
        session = self.add(peer)
        if self.journal is not None:
            self.journal.open(session)
        return session

    def add(self, peer: Peer) -> Session:
        """Add a session without opening it in the journal."""
        session = Session(peer, self.context, self)
        self.by_id[peer.id] = session
        return session

    def relocate(self, session: Session, name: str, address: str) -> None:
        """A peer has come back with this name, from this address. Its `Peer` stays the same object."""
        peer = session.peer
        if (peer.name, peer.address) != (name, address):
            msgspec.structs.force_setattr(peer, "name", name)  # It is frozen for applications.
            msgspec.structs.force_setattr(peer, "address", address)
            if session.record is not None:
                session.record.touch()

    def announce_up(self, session: Session, kind: EventKind) -> None:
        """Emit CONNECTED or RESUMED for a session."""
        session.generation.established = session.is_up = True
        self.context.counters.conversations += kind is EventKind.CONNECTED
        reports.session_up(session, kind)
        effects = self.context.effects
        effects.to_wake += (self.changed, session.changed)
        is_emitted = effects.emit_limited(kind, session.peer, None)
        session.is_announced = is_emitted if kind in effects.events.listening else None
        self.side.session_up(session)

    def announce_down(self, session: Session, error: Exception | None) -> None:
        """Emit DISCONNECTED, once for each connection."""
        if session.is_up:
            session.is_up = False
            reports.session_down(session, error)
            self._emit_for(session, EventKind.DISCONNECTED, error)

    def _emit_for(self, session: Session, kind: EventKind, error: Exception | None) -> None:
        """Emit an event of a connected session, unless its CONNECTED was dropped."""
        if session.is_announced is not False:
            is_promised = session.is_announced is True
            self.context.effects.emit_limited(kind, session.peer, error, is_promised)

    def peers(self) -> tuple[Peer, ...]:
        """The connected peers."""
        return tuple(each.peer for each in self.by_id.values() if each.is_up)

    # -- what sessions report --------------------------------------------------------------------------

    def acked(self, session: Session, done: list[Unit]) -> None:
        effects = self.context.effects
        session.acked_at = effects.now
        if session.record is not None and not session.is_plain:
            session.record.on_acked()
        if session.sending.queue:
            session.flush()
        if session.changed.waiters:
            effects.to_wake.append(session.changed)
        if done and EventKind.DELIVERED in effects.events.listening:
            for message in messages_of(done):
                if message.error is None:
                    effects.emit(EventKind.DELIVERED, session.peer, receipt=message)
        self.side.session_acked(session)

    def message_failed(self, session: Session, message: OutgoingMessage) -> None:
        session.first_failure = session.first_failure or message.error
        effects = self.context.effects
        effects.to_wake.append(session.changed)
        effects.emit(EventKind.ERROR, session.peer, message.error, message)
        self.client_asks.on_message_failed(message)
        self.server_asks.on_message_failed(session, message)

    def end_arrived(self, session: Session) -> None:
        if not end_has_arrived(session):
            return
        effects = self.context.effects
        if session.receiving.end_reason is None:
            session.receiving.end_reason = EndOfData(f"{session.peer} has ended the conversation")
            effects.to_wake += (self.context.mailbox.end_changed, session.changed)
            if not self.context.pattern.asks and not self.context.settings.comes_back:
                self._emit_for(session, EventKind.END, None)
            self.side.peer_ended(session)
        self.server_asks.end_arrived(session)
        if not (self.server_asks.has_open(session) or self.side.stays_open(session)):
            session.ending.is_requested = True
        session.flush()
        if session.link is not None and session.link.eof:
            session.link.settle_eof(effects.now)

    def end_acked(self, session: Session, done: list[Unit]) -> None:
        self.context.effects.to_wake.append(session.changed)
        self.acked(session, done)
        session.flush()

    def session_due(self, session: Session, now: float) -> None:
        self.side.session_due(session, now)

    def ask_closed(self, session: Session) -> None:
        """A request is closed: the session may have waited only for that before its end."""
        if session.ending.peer_last is not None and session.error is None:
            self.end_arrived(session)
        self.side.ask_closed(session)

    # -- closing ---------------------------------------------------------------------------------------

    def connection_lost(self, session: Session, link: Link, error: Exception | None) -> None:
        """The connection of a session is closed."""
        session.detach()
        if session.record is not None:
            session.record.offline()
        # Without a reconnect, the peer's FIN adds nothing to its confirmation.
        is_known = link.eof or (session.ending.is_acked and not session.resumes)
        if is_finished(session) and is_known and not session.is_plain:
            self.acked(session, session.sending.forget(session.sending.sent))
            self.close_session(session, None, is_known=True)
        elif session.is_plain:
            self.close_session(session, error)
        else:
            lost = error or PeerLost(f"{link.address} closed the connection")
            self.side.session_dropped(session, lost)

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        """Close the conversation. Messages that are not acknowledged fail.

        ``is_known``: the peer certainly knows that it has ended.
        """
        if session.error is not None:
            return
        effects = self.context.effects
        is_kept = self._is_kept(session)
        self.side.session_closing(session, is_known or is_kept)
        self.by_id.pop(session.peer.id, None)
        effects.timers.forget_one()
        peer = str(session.peer)
        over = f"the conversation with {peer} is over"
        if not session.established:
            over = never_connected(session, "this end was stopped, or has ended, before")
        session.error = error or EndOfData(over)
        session.timer.close()
        if session.receiving.end_reason is None:
            session.receiving.end_reason = session.error
        session.receiving.assembly = None  # A timer or a record may keep this session in memory for long.
        self._add_counts(session)
        self.server_asks.drop_session(session)
        if is_kept and session.record is not None:
            self.keep(session.in_flight())
            session.record.suspend()
        else:
            self._fail_all(session, error or PeerLost(f"{peer} closed before it was acknowledged"))
        self.client_asks.fail_all(session, error or PeerLost(f"{peer} closed without an answer"))
        link = session.detach()
        if link is not None:
            link.abort(error)
        effects.to_wake += (session.changed, self.context.mailbox.end_changed, self.changed)
        why = error
        if error is None and session.is_up and self.side.goes_on(session):
            why = PeerLost(f"{session.peer.address} closed the connection; connecting again")
        self.announce_down(session, why)
        self.side.session_closed(session, error)

    def _is_kept(self, session: Session) -> bool:
        """Does the store keep the session for a restart of the endpoint?"""
        is_left = self.context.is_client or self.context.is_stopping
        is_durable = session.record is not None and not session.is_plain  # which is an inbox only
        return is_durable and is_left and not is_finished(session)

    def keep(self, count: int) -> None:
        """``count`` messages stay in the store: they are not delivered, and not lost."""
        self.undelivered += count
        self.kept += count

    def _fail_all(self, session: Session, error: Exception) -> None:
        """Fail all messages that are not acknowledged."""
        count, record = session.in_flight(), session.record
        doubt, unsent = session.sending.abandon()
        messages = doubt + unsent
        if record is not None:
            messages += record.absent()
        if count and isinstance(record, Record) and self.journal is not None and not session.is_plain:
            text = f"{count} messages to {session.peer} are in doubt, and kept aside: {error}"
            self.context.effects.log("warning", text, "in_doubt", session.peer, {"messages": count})
            messages = [each for each in messages if each.stored_number]  # The store reports the others.
            self.journal.give_up(record, error, messages)
        elif record is not None:
            record.finish()
        for message in messages:
            self.fail_message(session, message, error)

    def fail_message(self, session: Session, message: OutgoingMessage, error: Exception) -> None:
        """Fail the receipt of a message, unless it has failed already."""
        if message.error is None:
            message.error = session.first_failure = error
            self.undelivered += self._is_undelivered(message)
            if message.kind == frames.DATA:
                if isinstance(error, SessionLost):  # One event has them all, the one without a receipt.
                    error = SessionLost(error.args[0])
                self.context.effects.emit(EventKind.ERROR, session.peer, error, message)

    def _is_undelivered(self, message: OutgoingMessage) -> bool:
        """Is a message that has failed counted as not delivered?"""
        header = message.header
        if header is None or header.kind not in (frames.ASK, frames.CANCEL):
            return True
        # The caller of a request gets its error, unless the stop is what ends it.
        return self.context.is_stopping and header.id in self.client_asks.waiting

    def _add_counts(self, session: Session) -> None:
        """Add the counters of a closed session to the endpoint's."""
        counters, sending, receiving = self.context.counters, session.sending, session.receiving
        counters.messages_sent += sending.messages_sent
        counters.messages_received += receiving.messages_received
        counters.bytes_sent += sending.bytes_sent
        counters.bytes_received += receiving.bytes_received

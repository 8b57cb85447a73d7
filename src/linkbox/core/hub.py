"""The brain of one endpoint: its sessions, its links, its mailbox, its timers.

How to think about it. Front ends own sockets, threads or tasks; the hub owns every decision. A front
end calls in (something was received, something is to be sent, time has passed) and afterwards looks at
what the hub left for it:

- ``dirty``: links with something to write, or to close;
- ``changed``: boxes somebody may be waiting at;
- ``events``: what callbacks are to be told;
- ``next_timer()``: when ``handle_timers(now)`` is due;
- ``notes``: lines for the log.

Nothing in here blocks, and nothing in here is thread-safe: a front end calls under its one lock.
`ServerHub` (server.py) decides who comes in, `ClientHub` (client.py) when to dial.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from linkbox.core import frames
from linkbox.core.asks import SWEEP, Ask, AskTable, Incoming, Sweeper
from linkbox.core.channel import Channel
from linkbox.core.decoding import is_error
from linkbox.core.delivering import Delivering
from linkbox.core.framings import PlainFraming
from linkbox.core.journal import Spool
from linkbox.core.link import Arrival, Link, State
from linkbox.core.linked import LinkedLink
from linkbox.core.mailbox import MailboxState
from linkbox.core.plain import PlainLink
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Settings
from linkbox.core.units import Delivery, deliveries_of
from linkbox.errors import (
    EndOfData,
    LinkboxError,
    PeerLost,
    StateError,
    TooLarge,
)
from linkbox.events import EventKind, Peer


class Hub(Delivering):
    """What servers and clients share."""

    is_client = False

    def __init__(self, settings: Settings, mailbox: MailboxState) -> None:
        super().__init__(settings, mailbox)
        self.asks = AskTable(self)
        self.forgotten: deque[Incoming] = deque()
        """Asks whose `Request` was dropped unanswered; any thread may append."""
        self.sweeper = Sweeper(self)
        self.owner: Any = None
        """Whom a `Request` talks to: the front end."""

    # -- for front ends: what arrives -----------------------------------------------------------------

    def receive(self, link: Link, data: bytes, now: float, into: deque[Arrival]) -> None:
        """Bytes came. Decode what is added to ``into``, then call `deliver` for each, in order."""
        self.now = now
        session = link.session
        mark = None if session is None else session.arrival_mark()
        before = len(into)
        try:
            into.extend(link.receive_data(data, now))
        except BaseException:
            # Half of it was understood: forget that half. It comes again when the session resumes.
            if session is not None and mark is not None:
                session.back_to(mark)
                while len(into) > before:
                    into.pop()
            self.interrupted(link)
            raise

    def interrupted(self, link: Link) -> None:
        """An exception out of nowhere (Ctrl-C) struck in the middle of a step: the link must not go on."""
        session = link.session
        if session is not None:
            session.mend()
            self.mailbox.recount()
            if self.pattern.asks:
                self.close_session(session, PeerLost(f"the conversation with {session.peer} was interrupted"))
        link.abort(PeerLost(f"{link.address}: interrupted"))

    def receive_eof(self, link: Link, now: float, into: deque[Arrival]) -> None:
        """The peer closed its half. Deliver what is added to ``into``."""
        self.now = now
        self.dirty.append(link)
        into.extend(link.receive_eof(now))

    def rescue(self, now: float) -> None:
        """After an exception out of nowhere: see to it that every link has its timer again."""
        self.now = now
        for link in self.links:
            link.timer_at = NEVER
            self.schedule(link, link.next_timer())

    def broken(self, link: Link, error: OSError, now: float) -> None:
        """The socket failed."""
        self.now = now
        link.abort(PeerLost(f"{link.address}: the connection broke ({error})"))

    def plain_arrivals(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        """What whole messages over a plain framing are: messages, asks or answers."""
        if self.pattern.asks:
            return self.asks.on_plain(session, payloads)
        return [Arrival(session, payloads, session.arrived)]

    def plain_rest(self, session: Session) -> list[Arrival]:
        """The peer has closed its half: over Raw, an ask (or an answer) is whole with that."""
        return self.asks.on_plain_eof(session) if self.pattern.asks else []

    # -- for front ends: sending ------------------------------------------------------------------------

    def send(self, session: Session, payload: bytes) -> Delivery:
        """Queue a message. `StateError` after the end; the window is the caller's to check."""
        self._check_open(session)
        if len(payload) > session.peer_message:
            raise TooLarge(
                f"{session.peer} takes messages of at most {session.peer_message} bytes, not {len(payload)}; "
                "raise Limits(message=...) there"
            )
        link = session.link
        if link is None:
            return session.queue_one(payload)
        self.dirty.append(link)
        delivery = session.receipts(session, payload)
        if not link.write_at_once(delivery, self.now):
            session.adopt(delivery)
        return delivery

    def spool(self, session: Channel, payloads: list[bytes], with_receipts: bool) -> Spool:
        """The same for an endpoint with a store: accepted once the entry is settled. Also `StoreError`."""
        assert isinstance(session, Session)
        self._check_open(session)
        assert self.journal is not None
        receipts = self.settings.receipts
        deliveries = [receipts(session, payload) for payload in payloads] if with_receipts else None
        return self.journal.spool(session.record, payloads, deliveries)

    def _check_open(self, session: Session) -> None:
        if session.ending or session.error is not None:
            raise StateError(f"the conversation with {session.peer} has ended; nothing more can be sent")

    def end(self, session: Session) -> None:
        """Nothing more will be sent to this peer."""
        session.ending = True
        self.flush_soon(session)

    def acknowledge_now(self, session: Session) -> None:
        """Somebody waits for a receipt: ask the peer not to be lazy."""
        if session.link is not None and not session.is_plain and session.link.state is State.OPEN:
            session.link.send_control(frames.frame(frames.ACK_NOW))

    def grow(self, count: int) -> None:
        """Somebody waits for more than the mailbox may usually hold: let that much in."""
        if count > self.mailbox.wanted:
            self.mailbox.wanted = count
            for session in self.sessions.values():
                session.owe_ack(2)

    def _pause(self, session: Session) -> None:
        link = session.link
        if link is not None and not link.paused and self.mailbox.overflow == "block":
            link.paused = True
            self.paused.append(session)
            self.dirty.append(link)

    def read_again(self) -> None:
        """The mailbox has been emptied a little: read the plain links that waited for that."""
        for session in self.paused[:]:
            if session.link is None or not self.mailbox.is_full(session.source):
                self.paused.remove(session)
                if session.link is not None:
                    session.link.paused = False
                    self.dirty.append(session.link)

    # -- what links say -------------------------------------------------------------------------------------

    def on_acked(self, session: Session, done: list[Any]) -> None:
        """The peer has acknowledged these, and may have granted more credit."""
        if session.record is not None:
            session.record.on_acked()
        if session.queue:
            self.flush_soon(session)
        if session.box.waiters:
            self.changed.append(session.box)
        if done and EventKind.DELIVERED in self.listening:
            for delivery in deliveries_of(done):
                if delivery.error is None:
                    self.emit(EventKind.DELIVERED, session.peer, receipt=delivery)

    def on_delivery_failed(self, session: Session, delivery: Delivery) -> None:
        """The peer refused a message, or would not take it."""
        session.first_failure = session.first_failure or delivery.error
        self.changed.append(session.box)
        self.emit(EventKind.ERROR, session.peer, delivery.error, delivery)
        if delivery.kind == frames.ASK and delivery.id in self.asks.waiting:
            self.asks.settle(self.asks.waiting[delivery.id], None, delivery.error)
        elif delivery.kind == frames.ANSWER:
            refusal = frames.encode_fail(delivery.id, "linkbox.TooLarge", str(delivery.error))
            session.send_frame(session.receipts(session, refusal, frames.FAIL, id=delivery.id))

    def on_plain_error(self, session_link: Link, error: LinkboxError) -> None:
        """The peer broke its plain framing."""
        self.counters.rejected += 1
        peer = None if session_link.session is None else session_link.session.peer
        self.emit(EventKind.ERROR, peer, error)

    def check_end(self, session: Session) -> None:
        """Has the peer ended, and is all it sent in the mailbox? Then this side ends too."""
        if session.peer_end is None or session.source.processed < session.peer_end:
            return
        if session.source.ended is None:
            session.source.ended = EndOfData(f"{session.peer} has ended the conversation")
            self.changed += (self.mailbox.end_box, session.box)
            if not self.pattern.asks:
                self.emit(EventKind.END, session.peer)
            self.on_peer_ended(session)
        if not self.asks.has_open(session):
            session.ending = True
        self.flush_soon(session)
        if session.link is not None and session.link.eof:
            session.link.settle_eof(self.now)

    def on_peer_ended(self, session: Session) -> None:
        """It has said all it had to say."""

    def on_end_acked(self, session: Session, done: list[Any]) -> None:
        """The peer has everything, our END included."""
        self.changed.append(session.box)
        self.on_acked(session, done)
        self.flush_soon(session)

    def is_finished(self, session: Session) -> bool:
        """Has this side said all and heard all, and does it know that the peer heard it?

        When it also sees the peer close (FIN), the peer is finished too: nobody closes earlier.
        """
        heard = session.end_acked or not session.resumes  # who never comes back needs no confirmation
        return session.end_sent and heard and session.source.ended is not None and not session.queue

    def on_stranger(self, link: Link, error: Exception) -> None:
        """Something that does not speak our wire."""
        self.note_stranger(f"{link.address}: {error}")

    def on_ask_closed(self, session: Session) -> None:
        """One ask less is open: the next may start; a session that only waited for that may end."""
        if session.is_plain:
            self._start_next(session)
        if session.peer_end is not None:
            self.check_end(session)

    def on_answered(self, ask: Ask) -> None:
        """An ask of ours is settled (client)."""

    def on_link_closed(self, link: Link, error: Exception | None) -> None:
        """A connection is gone."""
        self.links.discard(link)
        self.timers.forget_one()
        self.dirty.append(link)
        self.changed.append(self.box)
        session = link.session
        if session is None or session.link is not link:
            return
        session.link = None
        session.ack_owed = 0
        if session.record is not None:
            session.record.offline()
        if self.is_finished(session) and link.eof and not session.is_plain:
            self.on_acked(session, session.forget(session.sent))
            self.close_session(session, None, is_known=True)
        elif session.is_plain:
            self.close_session(session, error)
        else:
            self.on_dropped(session, error or PeerLost(f"{link.address} closed the connection"))

    def on_dropped(self, session: Session, error: Exception) -> None:
        """A connection broke in the middle of a session."""
        raise NotImplementedError

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        """The conversation is over for good. What was not acknowledged has failed.

        ``is_known``: the peer is sure to know that it is over.
        """
        if session.error is not None:
            return
        self.sessions.pop(session.id, None)
        self.timers.forget_one()
        is_kept = self._keeps(session)
        session.error = error or EndOfData(f"the conversation with {session.peer} is over")
        if session.source.ended is None:
            session.source.ended = session.error
        self.counters.add(session)
        self.asks.drop_session(session)
        if is_kept:
            self.undelivered += session.held
            session.record.suspend()
        else:
            self._fail_all(session, error or PeerLost(f"{session.peer} closed before it was acknowledged"))
        self.asks.fail_all(session, error or PeerLost(f"{session.peer} closed without an answer"))
        link, session.link = session.link, None
        if link is not None:
            link.abort(error)
        self.changed += (session.box, self.mailbox.end_box, self.box)
        self.announce_down(session, error)

    def _keeps(self, session: Session) -> bool:
        """Does the store keep the session for the next life of this end?"""
        is_left = self.is_client or self.stopping
        return session.record is not None and is_left and not self.is_finished(session)

    def _fail_all(self, session: Session, error: Exception) -> None:
        """What was not acknowledged has failed."""
        deliveries = [each for group in session.abandon() for each in group]
        if session.record is not None:
            deliveries += session.record.absent.values()
            session.record.finish()
        for delivery in deliveries:
            self.fail_delivery(session, delivery, error)

    def announce_down(self, session: Session, error: Exception | None) -> None:
        """Tell that a peer's link is gone, once."""
        if session.is_up:
            session.is_up = False
            self.emit(EventKind.DISCONNECTED, session.peer, error)

    def fail_delivery(self, session: Session, delivery: Delivery, error: Exception) -> None:
        """Its receipt fails, unless it has failed already."""
        if delivery.error is None:
            delivery.error = session.first_failure = error
            self.undelivered += 1
            if delivery.kind == frames.DATA:
                self.emit(EventKind.ERROR, session.peer, error, delivery)

    # -- asks -------------------------------------------------------------------------------------------

    def _deliver_ask(self, arrival: Arrival, values: Sequence[Any], now: float) -> None:
        session, ask = arrival.session, arrival.ask
        if ask is not None:
            self._deliver_message(session, ask, arrival, values, now)
        session.source.processed = max(session.source.processed, arrival.last)
        session.owe_ack(1)
        if session.peer_end is not None:
            self.check_end(session)

    def _deliver_message(
        self, session: Session, ask: Ask | Incoming, arrival: Arrival, values: Sequence[Any], now: float
    ) -> None:
        error = next((value for value in values if is_error(value)), None)
        session.messages_received += len(values)
        session.bytes_received += sum(map(len, arrival.payloads)) if error is None else 0
        if isinstance(ask, Ask):
            self.asks.settle(ask, None if error else values[0], error)
        elif error is not None:
            self.counters.rejected += 1
            self.emit(EventKind.ERROR, session.peer, error)
            kind = "linkbox.TooLarge" if isinstance(error, TooLarge) else "linkbox.DecodeError"
            if not ask.is_finished:
                self.asks.fail(ask, kind, str(error))
        elif not ask.is_finished:
            ask.messages += values
            if not arrival.is_final:
                self.emit(EventKind.PART, session.peer)
            elif self.asks.may_start(ask):
                self._store_request(session, ask, arrival.last, now)

    def _store_request(self, session: Session, ask: Incoming, last: int, now: float) -> None:
        nbytes = sum(len(each) if isinstance(each, bytes) else 100 for each in ask.messages)
        if self.sweeper.timer_at == NEVER:
            self.sweeper.due_at = now + SWEEP
            self.schedule(self.sweeper, self.sweeper.due_at)
        self.mailbox.put(session.source, (ask,), last, nbytes, now + self.settings.wall)
        self.changed.append(self.mailbox.box)
        self.emit(EventKind.DATA, session.peer)

    def _start_next(self, session: Session) -> None:
        """Over a plain framing one ask at a time is worked on: answers have no id to tell them apart."""
        ask = self.asks.next_plain(session)
        if ask is not None:
            self._store_request(session, ask, session.source.processed, self.now)

    def answer(self, incoming: Incoming, payload: bytes) -> None:
        """Answer a peer's ask. `StateError` if that was done already."""
        self.asks.answer(incoming, payload)
        self.on_ask_closed(incoming.session)

    def fail_ask(self, incoming: Incoming, type: str, text: str) -> None:
        """Let a peer's ask fail. `StateError` if it was answered already."""
        self.asks.fail(incoming, type, text)
        self.on_ask_closed(incoming.session)

    # -- the end ----------------------------------------------------------------------------------

    def shutdown(self, now: float) -> None:
        """Send what is left, say the end (or go away), close."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close everything now; what is not acknowledged fails."""
        self.stopping = True
        for session in list(self.sessions.values()):
            self.close_session(session, PeerLost(f"stopped before {session.peer} had everything"))
        for link in list(self.links):
            link.abort(None)

    def make_link(self, address: str, now: float, session: Session | None = None) -> Link:
        """A new connection. Over a plain framing it has no handshake: it is open at once."""
        self.now = now
        framing = self.settings.framing
        link: Link
        if framing.linked:
            link = LinkedLink(self, address, self.limits, now, session)
        else:
            assert isinstance(framing, PlainFraming)
            link = PlainLink(self, address, self.limits, now, framing)
        self.links.add(link)
        self.counters.connections += 1
        self.schedule(link, link.next_timer())
        return link

    def make_session(self, id: str, peer: Peer) -> Session:
        """A new conversation."""
        session = self.new_session(id, peer)
        if self.journal is not None:
            self.journal.open(session)
        return session

    def new_session(self, id: str, peer: Peer) -> Session:
        """The same, for what the store knows already."""
        session = Session(id, peer, self.mailbox, self.limits, self.settings.receipts)
        session.hub = self
        session.is_plain = not self.settings.framing.linked
        session.endless_credit = self.is_client and self.pattern.asks
        self.sessions[id] = session
        return session

    def peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        return tuple(each.peer for each in self.sessions.values() if each.is_up)

    # -- the upper seam, as far as it has other names than the hub (an adapter) ------------------------

    @property
    def is_stopping(self) -> bool:
        """Has `shutdown` been called?"""
        return self.stopping

    @property
    def has_store(self) -> bool:
        """Is what is sent written to a store first?"""
        return self.journal is not None

    def channels(self) -> list[Channel]:
        """All conversations."""
        return list(self.sessions.values())

    def is_idle(self) -> bool:
        """Is every conversation over, and every connection closed?"""
        return not self.sessions and not self.links

    def raise_limit(self, count: int) -> None:
        """Let the mailbox hold that much, because a call waits for it."""
        self.grow(count)

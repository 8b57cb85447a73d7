"""Handles decoded messages: stores them in the mailbox, or rejects them and reports that to the sender."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from linkbox.core.arrival import Arrival, AskState
from linkbox.core.asks_client import Ask
from linkbox.core.asks_server import IncomingAsk, request_failed
from linkbox.core.channel import AskHeader
from linkbox.core.connection import Connection
from linkbox.core.context import Context
from linkbox.core.durable.entries import Inflow
from linkbox.core.durable.record import Record
from linkbox.core.effects import ACK_DUE_NOW, ACK_DUE_SOON, REJECTED
from linkbox.core.incoming_asks import OVERHEAD
from linkbox.core.link import Link, bytes_of
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.source import Source
from linkbox.core.timers import NEVER
from linkbox.core.values import Value
from linkbox.core.wire import frames
from linkbox.core.wire.rejections import is_absent, is_error, reject_frame
from linkbox.errors import AnswerError, DecodeError, LinkboxError, MailboxFull, TooLarge
from linkbox.events import EventKind
from linkbox.formats import Skip

DATA = EventKind.DATA
REAP_EVERY = 0.25
"""Seconds between two searches for abandoned requests."""


class Inbox:
    """Stores decoded messages, requests and responses."""

    __slots__ = ("_context", "_reaper", "_sessions")

    def __init__(self, context: Context, sessions: SessionTable) -> None:
        self._context = context
        self._sessions = sessions
        self._reaper = AbandonedRequestReaper(self)

    # -- messages --------------------------------------------------------------------------------------

    def deliver(self, arrival: Arrival, values: Sequence[Value], now: float) -> None:
        """Store decoded messages. ``values`` has an exception for each message that could not be decoded."""
        context = self._context
        context.effects.now = now
        session = arrival.session
        receiving = session.receiving
        if session.error is not None and not context.is_plain:
            return  # Not acknowledged, so the sender knows.
        if context.pattern.asks:
            receiving.processed_bytes = max(receiving.processed_bytes, arrival.mark)
            self._deliver_ask(session, arrival, values, now)
        elif session.record is None:
            self.store(arrival, values, now + context.settings.wall)
        else:
            journal, record = self._sessions.journal, session.record
            assert journal is not None and isinstance(record, Record)
            receiving.storing += max(arrival.memory, 0)
            journal.arriving += len(values)
            journal.add(Inflow(record, arrival, values, context.wall_time(now)))

    def store(self, arrival: Arrival, values: Sequence[Value], at: float) -> None:
        """Put messages into the mailbox; with a store, call this once they are on disk."""
        if arrival.redelivered:
            self._store_redelivered(arrival, values, at)
            return
        session, payloads = arrival.session, arrival.payloads
        context, receiving = self._context, session.receiving
        if session.record is not None:
            receiving.storing -= max(arrival.memory, 0)
            if context.effects.is_blocked:
                context.effects.room_again()
        if arrival.mark > receiving.processed_bytes:
            receiving.processed_bytes = arrival.mark
        if context.mailbox.overflow == "block" and not arrival.has_errors:
            receiving.store(values, arrival.last, bytes_of(payloads), at, arrival.memory)
        else:
            number = arrival.last - len(values)
            share = arrival.memory // max(len(values), 1)
            for payload, value in zip(payloads, values, strict=True):
                number += 1
                nbytes = len(payload) if isinstance(payload, bytes) else 0
                self._store_one(session, value, number, nbytes, nbytes if share < 0 else share, at)
            receiving.store((), arrival.last, 0, at)
        if session.ending.peer_last is not None:
            self._sessions.end_arrived(session)

    def _store_redelivered(self, arrival: Arrival, values: Sequence[Value], at: float) -> None:
        """Put messages into the mailbox that the application may have had before: they are marked."""
        mailbox, receiving = self._context.mailbox, arrival.session.receiving
        may_join, before = mailbox.may_join, len(receiving.batches)
        mailbox.may_join = arrival.redelivered = False
        try:
            self.store(arrival, values, at)
        finally:
            mailbox.may_join = may_join
        for batch in islice(receiving.batches, before, None):
            batch.redelivered = True

    def _store_one(
        self, session: Session, value: Value, number: int, nbytes: int, memory: int, at: float
    ) -> None:
        """Store one message, or reject it if it is invalid or the mailbox is full."""
        receiving, mailbox = session.receiving, self._context.mailbox
        if isinstance(value, Skip):
            self._context.counters.skipped += 1
            receiving.processed = number
            return
        if is_error(value):
            receiving.processed = number
            self._reject(session, number, value)
            return
        if mailbox.overflow == "block":
            receiving.store((value,), number, nbytes, at, memory)
            return
        effects = self._context.effects
        stored, dropped = mailbox.put_bounded(receiving, value, number, memory, at)
        for victim, victim_number in dropped:
            self._report_dropped(victim, victim_number)
            effects.emit(EventKind.OVERFLOW, victim.peer)
        if stored:
            receiving.count_messages(1, nbytes)
            effects.to_wake.append(mailbox.changed)
            if not effects.events.takes_over(session.peer):
                effects.emit(DATA, session.peer)
        else:
            error = MailboxFull(f"the mailbox is full (overflow={mailbox.overflow!r})")
            effects.emit(EventKind.OVERFLOW, session.peer, error)
            self._send_reject(session, frames.encode_reject(number, "full", str(error)))

    def _report_dropped(self, source: Source, number: int) -> None:
        """Report to the sender that an acknowledged message was dropped from the full mailbox."""
        session = self._sessions.by_id.get(source.peer.id)
        if session is not None and session.receiving is source and not session.is_plain:
            session.rejections.add_dropped(number)
            session.flush()

    def _reject(self, session: Session, number: int, error: LinkboxError) -> None:
        """Reject a message: report it to the sender and continue with the next one."""
        self._context.counters.rejected += 1
        effects = self._context.effects
        if effects.may_log(REJECTED):
            text = f"a message from {session.peer} was rejected: {error}"
            effects.log("warning", text, "rejected", session.peer)
        effects.emit(EventKind.ERROR, session.peer, error)
        if session.record is None:
            self._send_reject(session, reject_frame(number, error))
        elif session.link is not None:
            session.link.send_control(reject_frame(number, error))  # The record has kept it already.

    def _send_reject(self, session: Session, frame: bytes) -> None:
        if not session.is_plain:
            session.rejections.keep((frame,))
            if session.link is not None:
                session.link.send_control(frame)

    # -- unexpected errors ------------------------------------------------------------------------------

    def reading_failed(self, connection: Connection, error: Exception) -> None:
        """An unexpected error has hit `EndpointCore.received`, and the connection is closed."""
        assert isinstance(connection, Link)
        if connection.session is not None:
            self.storing_failed(connection.session, error)

    def storing_failed(self, session: Session, error: Exception) -> None:
        """End a conversation if an unexpected error may have cost messages.

        They count as arrived, so the peer would not send them again after a reconnect, and the next
        acknowledgement would cover them. As the conversation ends, the peer has them in doubt.
        """
        receiving = session.receiving
        pieces = 0 if receiving.assembly is None else receiving.assembly.pieces
        if receiving.arrived != receiving.processed + pieces:
            self._sessions.close_session(session, error)

    # -- requests and responses ------------------------------------------------------------------------

    def _deliver_ask(self, session: Session, arrival: Arrival, values: Sequence[Value], now: float) -> None:
        ask, receiving = arrival.ask, session.receiving
        if ask is not None:
            self._deliver_message(session, ask, arrival, values, now)
        elif values:
            self._deliver_plain(session, arrival, values[0])
        receiving.processed = max(receiving.processed, arrival.last)
        receiving.request_ack(ACK_DUE_SOON)
        if session.ending.peer_last is not None:
            self._sessions.end_arrived(session)

    def _deliver_message(
        self, session: Session, ask: AskState, arrival: Arrival, values: Sequence[Value], now: float
    ) -> None:
        error = next(filter(is_absent, values), None) if arrival.has_errors else None
        if isinstance(ask, Ask):
            session.receiving.count_messages(1, bytes_of(arrival.payloads) if error is None else 0)
            self._deliver_response(session, ask, values[0], error)
            return
        assert isinstance(ask, IncomingAsk)
        if error is None:
            nbytes, memory = bytes_of(arrival.payloads), max(arrival.memory, 0)
            self.store_part(ask, values, nbytes, memory, arrival.is_final, arrival.last, now)
        else:
            session.receiving.count_messages(1, 0)
            self._reject_request(session, ask, error)

    def _deliver_plain(self, session: Session, arrival: Arrival, value: Value) -> None:
        """A message has arrived at a client with a plain framing: a response, or nobody has asked for it."""
        error = value if is_absent(value) else None
        size = bytes_of(arrival.payloads) if error is None else 0
        session.receiving.count_messages(1, size)
        if isinstance(error, Skip):
            self._context.counters.skipped += 1
        else:
            size = max(size, arrival.memory)
            self._sessions.client_asks.on_plain_message(session, value, size, error)
            self._sessions.side.ask_closed(session)

    def _deliver_response(self, session: Session, ask: Ask, value: Value, error: Exception | None) -> None:
        if isinstance(error, Skip):
            self._context.counters.skipped += 1
            error = DecodeError("the format has skipped the response")
        self._sessions.client_asks.settle(ask, None if error else value, error)

    def _reject_request(self, session: Session, ask: IncomingAsk, error: Exception) -> None:
        """A message of a request cannot be decoded, or was skipped: let the request fail."""
        kind, text = "linkbox.DecodeError", str(error)
        if isinstance(error, Skip):
            self._context.counters.skipped += 1
            kind, text = "Skip", "skipped"
        else:
            self._context.counters.rejected += 1
            self._context.effects.emit(EventKind.ERROR, session.peer, error)
            if isinstance(error, TooLarge):
                kind = "linkbox.TooLarge"
        if ask.is_finished:
            return
        if session.is_plain and isinstance(error, Skip):  # Such as a line that keeps a connection alive.
            self.ignore(ask)
            return
        self._fail(ask, kind, text, error)
        if session.is_plain:  # The next one may begin.
            self.ask_closed(session)

    def store_part(
        self,
        ask: IncomingAsk,
        values: Sequence[Value],
        nbytes: int,
        memory: int,
        is_final: bool,
        last: int,
        now: float,
    ) -> None:
        """Add a message to its request, if it is one; put the request into the mailbox if it is complete.

        ``nbytes`` is the size of the payload, ``memory`` what the value takes besides.
        """
        context, session = self._context, ask.session
        effects, mailbox, receiving = context.effects, context.mailbox, session.receiving
        receiving.messages_received += len(values)
        receiving.bytes_received += nbytes
        if ask.is_finished:
            return
        ask.messages += values
        ask.memory += memory
        if ask.held and not self._sessions.server_asks.add_decoded(ask, memory - nbytes, is_final, now):
            return
        if not is_final:
            effects.emit(EventKind.PART, session.peer)
            return
        if self._reaper.timer_at == NEVER:
            self._reaper.start(now, context)
        cost = OVERHEAD
        for each in ask.messages:
            cost += OVERHEAD + len(each) if isinstance(each, bytes) else OVERHEAD
        mailbox.put(receiving, (ask,), last, max(cost, ask.memory), now + context.settings.wall)
        effects.to_wake.append(mailbox.changed)
        if DATA in effects.events.listening and not effects.events.takes_over(session.peer):
            effects.emit(DATA, session.peer)

    def fail(self, ask: IncomingAsk, type: str, text: str, error: BaseException | None = None) -> None:
        """Let a request fail. `StateError` if there was a response already."""
        self._fail(ask, type, text, error)
        self.ask_closed(ask.session)

    def ignore(self, ask: IncomingAsk) -> None:
        """With a plain framing: send no response to a request. `StateError` if there was one already."""
        self._sessions.server_asks.ignore(ask)
        self.ask_closed(ask.session)

    def _fail(self, ask: IncomingAsk, type: str, text: str, error: BaseException | None = None) -> None:
        session = ask.session
        dialogue = self._context.settings.dialogue
        if dialogue is not None and dialogue.on_error is not None and not ask.is_finished:
            response = self._response_to(
                ask, error if isinstance(error, Exception) else AnswerError(type, text)
            )
            if response is not None:
                self._sessions.server_asks.respond(ask, AskHeader(frames.ANSWER, ask.id), response)
                return
        if self._sessions.server_asks.fail(ask, type, text):
            assert isinstance(session.link, Link)  # Without its connection, a plain session is closed.
            session.link.error = request_failed(session)
            self._sessions.server_asks.end_plain(session)

    def _response_to(self, ask: IncomingAsk, error: Exception) -> bytes | None:
        """The response that `Dialogue.on_error` makes out of a failure. None: close the connection."""
        settings = self._context.settings
        assert settings.dialogue is not None and settings.encode is not None
        on_error = settings.dialogue.on_error
        assert on_error is not None
        try:
            value = on_error(ask.messages[0] if ask.messages else None, error)
            return None if value is None else settings.encode(value)
        except Exception as raised:
            self._context.effects.failures.append((f"on_error= for {ask.session.peer}", raised))
            return None

    def ask_closed(self, session: Session) -> None:
        """One request less is open: with a plain framing, the next one may begin."""
        context = self._context
        if context.is_plain and context.settings.keep_alive:
            self._sessions.server_asks.go_on(session)
        elif context.is_plain and session.error is None:
            self._sessions.server_asks.end_plain(session)
        if context.is_stopping or session.ending.peer_last is not None:
            self._sessions.ask_closed(session)

    def fail_abandoned(self) -> bool:
        """Fail requests that the application has dropped without a response. Return whether any are open."""
        asks = self._sessions.server_asks
        while asks.abandoned:
            ask = asks.abandoned.popleft()
            if not ask.is_finished:
                self.fail(ask, "RequestFailed", "the server dropped the request unanswered")
        return asks.open_count > 0

    # -- room ------------------------------------------------------------------------------------------

    def events_done(self, count: int) -> None:
        """Callbacks have returned for ``count`` events: there may be room for more messages."""
        events, most = self._context.effects.events, self._context.limits.mailbox_messages
        was_full = events.pending >= most
        events.done(count)
        if was_full and events.pending < most:
            self._grant_all()

    def raise_limit(self, count: int) -> None:
        """A caller waits for more than the mailbox usually holds: grant credit for that much."""
        mailbox = self._context.mailbox
        if count > mailbox.requested:
            mailbox.requested = count
            self._context.effects.room_again()
            self._grant_all()

    def _grant_all(self) -> None:
        for session in self._sessions.by_id.values():
            session.receiving.request_ack(ACK_DUE_NOW)


class AbandonedRequestReaper:
    """Searches for abandoned requests at intervals while any request is open."""

    __slots__ = ("_due_at", "_inbox", "timer_at")

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._due_at = NEVER
        self.timer_at: float = NEVER

    def start(self, now: float, context: Context) -> None:
        """Start to search: a request was given to the application, and no search is scheduled."""
        self._due_at = now + REAP_EVERY
        context.effects.timers.schedule(self, self._due_at)

    def next_timer(self) -> float:
        """When to search next."""
        return self._due_at

    def handle_timer(self, now: float) -> None:
        """Fail abandoned requests."""
        self._due_at = now + REAP_EVERY if self._inbox.fail_abandoned() else NEVER

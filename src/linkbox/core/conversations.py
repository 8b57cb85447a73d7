"""The conversations of a client: begins them, and moves unsent messages from one to the next."""

from __future__ import annotations

from collections import Counter, deque

from linkbox.core.asks_client import Ask
from linkbox.core.channel import OutgoingMessage
from linkbox.core.context import Context
from linkbox.core.dialing import Dialing
from linkbox.core.durable.entries import in_doubt
from linkbox.core.durable.record import Record
from linkbox.core.linked_link import LinkedLink
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.timers import NEVER
from linkbox.core.wire import frames
from linkbox.errors import PeerLost
from linkbox.events import Peer


class Conversations:
    """The sessions of a client."""

    __slots__ = (
        "_context",
        "_open",
        "_queued",
        "_sessions",
        "dialing",
        "has_come_back",
        "main",
        "resumes",
    )

    def __init__(self, context: Context, sessions: SessionTable, dialing: Dialing, resumes: bool) -> None:
        self._context = context
        self._sessions = sessions
        self.dialing: Dialing = dialing
        self.resumes: bool = resumes
        """Can a session continue on another connection?"""
        self._open: dict[Session, None] = {}
        """With a limit on connections: the sessions that have one, or are about to."""
        self._queued: deque[Session] = deque()
        """Sessions that must wait until fewer are open."""
        self.has_come_back: bool = False
        """With a plain framing: was there a connection before this one?"""
        self.main: Session | None = None
        """The conversation that messages are sent on; None: the next send begins one."""

    def begin(self, now: float) -> Session:
        """Begin a conversation, and connect at once."""
        session = self._new(now)
        if not self._context.settings.connections:
            self.set_out(session, now)
            return session
        session.resumes = self.resumes
        self._queued.append(session)
        self._set_out_next()
        return session

    def _new(self, now: float) -> Session:
        """The session of a new conversation; it does not connect yet."""
        id = self._context.settings.entropy(16).hex()
        address = self.dialing.address
        return self._sessions.open(Peer(address, address, id, self._context.wall_time(now)))

    def _set_out_next(self) -> None:
        """Let sessions connect while fewer connections are open than are allowed."""
        most = self._context.settings.connections
        while self._queued:
            if len(self._open) >= most:
                used = next(filter(self._is_used_up, self._open), None)
                if used is None:
                    return
                used.close(None)  # The peer may keep its half open: do not wait for that. Calls `closed`.
                continue
            session = self._queued.popleft()
            self._open[session] = None
            self.dialing.begin(session, self._context.effects.now)

    def _is_used_up(self, session: Session) -> bool:
        """Has a connection that was for one request only done its work?"""
        is_busy = self._sessions.client_asks.is_busy(session)
        return session.is_ending and not is_busy and not session.sending.queue

    def ask_closed(self) -> None:
        """A request is done: its connection may be over, and another session may wait for that."""
        self._set_out_next()

    def closed(self, session: Session) -> None:
        """A session is closed: let another one connect."""
        if session.established and not session.receiving.arrived:
            self.dialing.move_on(session)  # Its server has answered nothing.
        if session in self._queued:
            self._queued.remove(session)
        self._open.pop(session, None)
        asks = self._sessions.client_asks
        if asks.is_busy(session):  # Requests that were never sent.
            asks.take_over(session, self.current(self._context.effects.now))
        asks.closed(session)
        self._set_out_next()

    def pause_after(self, old: Session) -> float | None:
        """With a plain framing: seconds until a new session should follow this one; None: none should."""
        reconnect = self.dialing.reconnect
        if (
            not self._context.settings.comes_back
            or self._context.is_stopping
            or not old.generation.established
            or self.main is not old
            or reconnect is None
        ):
            return None
        delay = reconnect.delay(_failures_after(old), self.dialing.random)
        if delay is not None and self._context.effects.now - old.attempts.connected_at < reconnect.initial:
            # A gateway without its device accepts, writes why, and closes, thousands of times a second.
            delay = max(delay, reconnect.initial)
        return delay

    def come_back(self, old: Session) -> bool:
        """With a plain framing: let a new session follow this one, if it should; it connects soon."""
        delay = self.pause_after(old)
        if delay is None:
            return False
        now = self._context.effects.now
        new = self.main = self._new(now)
        new.resumes = self.resumes
        new.attempts.failures = _failures_after(old)
        new.attempts.failed_at, new.attempts.retry_at = now, now + delay
        if new.attempts.failures:
            self.dialing.move_on(old)
            new.attempts.route = old.attempts.route
        new.timer.wake_at(now + delay)
        self.has_come_back = True
        return True

    def stay_away(self) -> None:
        """The application ends the conversation: do not connect again."""
        self._context.settings.comes_back = False

    def seconds_to_attempt(self, now: float) -> float | None:
        """When a client that comes back will connect again; None if it is not waiting for that."""
        session = self.main
        if not self.has_come_back or session is None or session.timer.due_at == NEVER:
            return None
        return max(0.0, session.timer.due_at - now)

    def set_out(self, session: Session, now: float, pause: float = 0.0) -> None:
        """Let the session connect."""
        session.resumes = self.resumes
        self.dialing.begin(session, now, pause)

    def restore(self, session: Session, is_ending: bool, now: float) -> None:
        """Restore a session from the store after a restart of the client."""
        record, generation = session.record, session.generation
        assert record is not None
        generation.established = bool(generation.incarnation)
        if not record.waiting() and not generation.established:
            self._sessions.close_session(session, None)
            record.finish()
            return
        is_done = not record.waiting() and not self._context.pattern.server_sends
        session.ending.is_requested = is_ending or is_done
        if not session.is_ending:
            self.main = session
        self.set_out(session, now)

    def current(self, now: float) -> Session:
        """The current conversation, or a new one."""
        self._context.effects.now = now
        session = self.main
        if session is None or session.error is not None or session.ending.is_requested:
            session = self.main = self.begin(now)
        elif not session.is_up and self._context.pattern.asks:
            self.dialing.hurry(session, now)  # the caller waits for the response
        return session

    def least_busy(self, now: float) -> Session:
        """With a plain framing: the session for the next request, while all others are in use."""
        found = self.idle()
        if found is not None:
            return found
        most = self._context.settings.connections
        usable = [each for each in self._sessions.by_id.values() if not each.is_ending]
        if not most or len(usable) < most:
            return self.begin(now)
        asks = self._sessions.client_asks
        found = min(usable, key=lambda each: len(asks.of(each)))
        self.dialing.hurry(found, now)
        return found

    def idle(self) -> Session | None:
        """With a plain framing: a session whose connection no request is using."""
        for session in self._sessions.by_id.values():
            if (
                session.error is None
                and not session.is_ending
                and not self._sessions.client_asks.is_busy(session)
            ):
                return session
        return None

    def start_over(self, link: LinkedLink, old: Session) -> Session:
        """The server has forgotten the session: move unsent messages to a new one; the rest are in doubt."""
        old.detach()
        doubt, unsent = old.sending.abandon()
        old.receiving.assembly = None
        if old.record is not None:
            new = self._sessions.add(old.peer)
            self._hand_over(old, new, doubt, unsent)
        else:
            error = in_doubt(old, doubt)
            for message in doubt:
                self._sessions.fail_message(old, message, error)
            carries_on = self.main is old
            self._sessions.close_session(old, error)
            new = self._sessions.open(old.peer)
            new.generation.follow(old.generation)
            new.ending.is_requested = old.is_ending
            # Requests fail with the old session: the server may have had a part of one before its restart.
            self._move(old, [each for each in unsent if each.kind == frames.DATA], new)
            if carries_on:
                self.main = new
        new.attempts.renew(old.attempts)
        link.session = new
        new.attach(link)
        return new

    def _hand_over(
        self, old: Session, new: Session, doubt: list[OutgoingMessage], unsent: list[OutgoingMessage]
    ) -> None:
        """The same with a store: the journal determines what is in doubt and sends the rest."""
        record, journal = old.record, self._sessions.journal
        assert journal is not None and isinstance(record, Record)
        new.generation.follow(old.generation)
        new.ending.is_requested, new.resumes = old.is_ending, old.resumes
        journal.restart(record, old, new, doubt, unsent)
        old.successor = new
        if self.main is old:
            self.main = new
        self._sessions.close_session(old, None)
        self._sessions.by_id[new.peer.id] = new

    def _move(self, old: Session, unsent: list[OutgoingMessage], new: Session) -> None:
        """Move messages that were never sent to another session."""
        old.successor = new
        for message in unsent:
            if message.error is None:
                message.channel = new
                new.sending.enqueue(message)
                if message.header is not None:
                    self._sessions.client_asks.move(old, new, message.header.id)

    def leave(self, session: Session, unsent: list[OutgoingMessage]) -> None:
        """Move what a stopping server has not accepted to a new conversation; fail incomplete requests."""
        error = PeerLost(f"{session.peer} was stopped")
        is_ending, asks = session.is_ending, self._sessions.client_asks
        waiting = asks.of(session)
        moved = _unsent_whole(waiting, unsent)
        unsent = [each for each in unsent if each.header is None or each.header.id in moved]
        now = self._context.effects.now
        pause, is_failure = self.dialing.sent_away(session, now)
        if unsent and pause is not None and not self._context.is_stopping:
            new = self._new(now)
            new.attempts.follow(session.attempts, is_failure)
            self.set_out(new, now, pause)
            new.ending.is_requested = is_ending
            self._move(session, unsent, new)
            if self.main is session:
                self.main = new
        else:
            for message in unsent:
                self._sessions.fail_message(session, message, error)
        for ask in waiting:
            if ask.id not in moved:
                asks.settle(ask, None, error)
        self._sessions.close_session(session, error if waiting or not is_ending else None)

    def follow(self, old: Session, unsent: list[OutgoingMessage]) -> None:
        """With a store: let a new session take over what the stopping server has not accepted."""
        record = old.record
        assert record is not None
        if not unsent and not old.in_flight():
            self._sessions.close_session(old, None)
            record.finish()  # Nothing is left to send after a restart.
            return
        if self._context.is_stopping:
            self._sessions.keep(len(unsent))
            self._sessions.close_session(old, PeerLost(f"{old.peer} was stopped"))
            return
        id = self._context.settings.entropy(16).hex()
        peer = old.peer
        new = self._sessions.add(Peer(peer.name, peer.address, id, peer.connected_at, peer.identity))
        self._hand_over(old, new, [], unsent)
        new.generation.epoch = 0
        now = self._context.effects.now
        pause, is_failure = self.dialing.sent_away(old, now)
        if pause is None and old.attempts.failures:  # The store keeps what is left.
            self.dialing.give_up(new, PeerLost(f"{old.peer} was stopped"))
            return
        new.attempts.follow(old.attempts, is_failure)
        self.set_out(new, now, pause or 0.0)


def _failures_after(old: Session) -> int:
    """The failed attempts in a row, after a plain connection: it counts as one if it carried nothing."""
    return 0 if old.receiving.arrived or old.sending.sent else old.attempts.failures + 1


def _unsent_whole(waiting: list[Ask], unsent: list[OutgoingMessage]) -> set[int]:
    """The ids of requests of which nothing was sent: a request moves as a whole or not at all."""
    ids = (each.header.id for each in unsent if each.header is not None and each.header.kind == frames.ASK)
    counts = Counter(ids)
    return {ask.id for ask in waiting if ask.frames_sent == counts[ask.id]}

"""Handles what links and sessions report to a server, and stops the server."""

from __future__ import annotations

from linkbox.core.admission import Admission
from linkbox.core.arrival import Arrival
from linkbox.core.context import Context
from linkbox.core.effects import UNAUTHENTICATED
from linkbox.core.ending import is_finished
from linkbox.core.inbox import Inbox
from linkbox.core.kept_sessions import KeptSessions, has_spool, is_unused
from linkbox.core.link import Link
from linkbox.core.link_table import LinkTable
from linkbox.core.places import Places
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable, Side
from linkbox.core.timers import NEVER
from linkbox.core.wire import frames, handshake_messages
from linkbox.errors import LinkboxError, LinkError, PeerLost, ProtocolViolation, TooLarge
from linkbox.events import EventKind

CONFIRM = 60.0
"""Seconds to keep an ended session whose last confirmation may have been lost."""
PENDING_LEAVE = 0.25
"""Seconds that a stopping server waits for connections that have not completed the handshake."""


class ServerSide(Side):
    """Keeps a server's sessions when their connections are lost, and stops the server."""

    __slots__ = ("_context", "_inbox", "_kept", "_links", "_sessions", "admission", "ends_conversations")

    def __init__(
        self, context: Context, sessions: SessionTable, links: LinkTable, inbox: Inbox, max_peers: int
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._links = links
        self._inbox = inbox
        self._kept = KeptSessions(context.limits.mailbox_total)
        self.ends_conversations: bool = context.pattern.stop_ends
        """Does a stop of the server end the conversations, or may the clients come back?"""
        places = Places(sessions, self._kept, max_peers)
        self.admission: Admission = Admission(context, sessions, links, places, self)

    # -- what links report -----------------------------------------------------------------------------

    def link_closed(self, link: Link, error: Exception | None) -> None:
        was_pending = self.admission.forget(link)
        if was_pending and error is not None and not isinstance(error, ProtocolViolation):  # logged already
            self._context.effects.log_limited(UNAUTHENTICATED, str(error), "info")
        self._links.closed(link, error)
        self.admission.place_free()

    def secured(self, link: Link, now: float) -> None:
        self._context.effects.now = now
        self.admission.secured(link, now)

    def insecure(self, link: Link, error: LinkError, now: float) -> None:
        self._context.effects.now = now
        self.admission.insecure(link, error, now)

    def ask_frame(self, session: Session, kind: int, payload: bytes, now: float) -> Arrival | None:
        asks, receiving = self._sessions.server_asks, session.receiving
        if kind == frames.CANCEL:
            if asks.on_cancel(session, payload):
                self._inbox.ask_closed(session)
            return None
        if kind != frames.ASK:
            raise ProtocolViolation(f"{frames.type_name(kind)} from the wrong side")
        part = asks.on_ask(session, payload, now)
        if part is None:
            return None
        ask, message, is_final = part
        messages = [] if message is None else [message]
        must_wait = self._context.settings.decodes or receiving.processed < receiving.arrived - 1
        if must_wait or isinstance(message, TooLarge):
            arrival = Arrival(session, messages, receiving.arrived, ask)
            arrival.is_final = is_final
            return arrival
        self._inbox.store_part(ask, messages, len(message or b""), 0, is_final, receiving.arrived, now)
        return None

    def plain_messages(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        if self._context.pattern.asks:
            return self._sessions.server_asks.on_plain(session, payloads)
        return [Arrival(session, [*payloads], session.receiving.arrived)]

    def plain_rest(self, session: Session) -> list[Arrival]:
        return self._sessions.server_asks.on_plain_eof(session) if self._context.pattern.asks else []

    def plain_error(self, link: Link, error: LinkboxError) -> None:
        self._context.counters.rejected += 1
        peer = None if link.session is None else link.session.peer
        self._context.effects.emit(EventKind.ERROR, peer, error)

    # -- what sessions report --------------------------------------------------------------------------

    def session_dropped(self, session: Session, error: Exception) -> None:
        """Keep the session until its peer reconnects; if too many are kept then, give one up."""
        has_ended = session.receiving.end_reason is not None
        self._sessions.announce_down(session, None if has_ended and isinstance(error, PeerLost) else error)
        has_room = self._sessions.server_asks.disconnected(session)
        is_kept = has_room and session.resumes and not self._context.is_stopping
        if not is_kept or not (has_spool(session) or self._kept.has_room(session)):
            self._sessions.close_session(session, None if is_finished(session) else error)
            return
        self.await_return(session)
        most = self._context.limits.sessions
        surplus = self._kept.surplus() if len(self._kept) > most else None
        if surplus is not None:
            text = f"{surplus.peer} was disconnected, and {most} more sessions are kept: Limits(sessions=...)"
            self._sessions.close_session(surplus, None if is_finished(surplus) else PeerLost(text))

    def await_return(self, session: Session) -> None:
        """Keep a session for the return of its peer."""
        self._kept.add(session)
        session.timer.wake_at(self._context.effects.now + self._patience(session)[0])

    def peer_ended(self, session: Session) -> None:
        # Its last messages may have been decoded after the connection was lost.
        if session.link is None and session.error is None:
            seconds = self._patience(session)[0]
            session.timer.wake_at(min(session.timer.due_at, self._context.effects.now + seconds))

    def _patience(self, session: Session) -> tuple[float, str]:
        """How long a session is kept, and what says so."""
        limits = self._context.limits
        if session.record is not None:
            return limits.stored_session, "Limits(stored_session=...)"
        if session.receiving.end_reason is not None and limits.session > CONFIRM:
            return CONFIRM, "it had ended the conversation"
        return limits.session, "Limits(session=...)"

    def session_due(self, session: Session, now: float) -> None:
        """The peer of a session did not reconnect in time; or it has closed its half, see `stays_open`."""
        if session.is_plain:
            session.end()
            return
        seconds, rule = self._patience(session)
        lost = PeerLost(f"{session.peer} did not come back in {seconds:g} s ({rule})")
        self._sessions.close_session(session, None if is_finished(session) else lost)

    def stays_open(self, session: Session) -> bool:
        """With a plain framing, FIN closes one direction: the other one stays open for a while."""
        context = self._context
        patience = context.settings.half_close
        if not (patience and session.is_plain and context.pattern.server_sends):
            return False
        if context.is_stopping or session.is_ending:
            return False
        if session.timer.due_at == NEVER:
            session.timer.wake_at(context.effects.now + patience)
        return True

    def session_up(self, session: Session) -> None:
        self._kept.remove(session)

    def session_closing(self, session: Session, is_known: bool) -> None:
        if session.resumes and not is_known and not is_unused(session):
            self._context.knows_since = max(self._context.knows_since, self._context.effects.now)

    def session_closed(self, session: Session, error: Exception | None) -> None:
        self._kept.remove(session)

    def session_acked(self, session: Session) -> None:
        if self._context.pattern.asks:
            self._sessions.server_asks.acked(session)
        if self._context.is_stopping and not self.ends_conversations and session.error is None:
            self._go_away(session)

    def ask_closed(self, session: Session) -> None:
        if self._context.is_stopping and session.error is None:
            self._go_away(session)

    # -- stopping --------------------------------------------------------------------------------------

    def shutdown(self, now: float) -> None:
        """Shut down gracefully: send END, or GOAWAY, once everything is sent."""
        self.admission.hurry(PENDING_LEAVE, now)
        self.admission.place_free()  # Clients that wait for a slot are refused.
        for session in list(self._sessions.by_id.values()):
            link = session.link
            if link is None:
                is_lost = bool(session.in_flight())
                error = (
                    PeerLost(f"{session.peer} was disconnected when this end stopped") if is_lost else None
                )
                self._sessions.close_session(session, error)
            elif session.is_plain or session.ending.peer_last is not None:
                session.end()
            elif session.record is not None and not session.is_ending:
                link.send_control(session.ack_frame())
                self._part(session, None)  # The peer reconnects after a restart.
            elif self.ends_conversations or (session.is_ending and self._context.pattern.stop_ends):
                session.end()
            else:
                self._go_away(session)

    def _go_away(self, session: Session) -> None:
        """Send GOAWAY: the server is stopping, and has accepted the client's units up to this number.

        Responses that are due or not acknowledged come first: this is called again after each of them.
        """
        link = session.link
        if (
            link is None
            or session.is_plain
            or session.ending.peer_last is not None
            or self._sessions.server_asks.has_open(session)
            or session.in_flight()
            or (self._context.pattern.stop_ends and session.is_ending)
        ):
            return
        link.send_control(session.ack_frame())
        if not self._context.pattern.stop_ends:
            link.send_control(frames.encode_number(frames.GOAWAY, session.receiving.processed))
        self._part(session, None)  # Without GOAWAY it is lost for the client, which connects again.

    def _part(self, session: Session, error: LinkboxError | None) -> None:
        """Close the session; its link writes what is left and closes."""
        link = session.detach()
        self._sessions.close_session(session, error)
        if link is not None:
            link.close_soon(self._context.effects.now)
            self._context.effects.to_write.append(link)

    def disconnect(self, session: Session, reason: str) -> None:
        """Disconnect a peer for the application: it receives the reason and does not reconnect."""
        link = session.link
        if link is not None and not session.is_plain:
            link.send_control(handshake_messages.refuse("disconnected", reason))
        self._part(session, PeerLost(f"{session.peer} was disconnected from here: {reason}"))

"""Handles what links and sessions report to a client: WELCOME, refusals, GOAWAY and lost connections."""

from __future__ import annotations

from linkbox.core import reports
from linkbox.core.arrival import Arrival
from linkbox.core.backoff import TRY_AGAIN
from linkbox.core.context import Context
from linkbox.core.conversations import Conversations
from linkbox.core.dialing import Dialing
from linkbox.core.effects import UNAUTHENTICATED
from linkbox.core.ending import is_finished
from linkbox.core.handshake import STEP, ClientHandshake
from linkbox.core.link import Link, State
from linkbox.core.link_table import LinkTable
from linkbox.core.linked_link import LinkedLink
from linkbox.core.plain_link import PlainLink
from linkbox.core.resumption import WelcomeVerdict, on_welcome
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable, Side
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import handshake_messages
from linkbox.core.wire.framing import PlainFraming
from linkbox.core.wire.handshake_errors import NotLinkbox
from linkbox.core.wire.handshake_messages import Hello, Refuse, Welcome
from linkbox.errors import (
    AuthenticationFailed,
    ConnectFailed,
    LinkboxError,
    LinkError,
    PeerLost,
    ProtocolViolation,
    Refused,
    SessionLost,
)
from linkbox.events import EventKind, Peer


class ClientSide(Side):
    """Carries a client's conversations from the first attempt to connect to their end."""

    __slots__ = ("_context", "_links", "_sessions", "conversations", "dialing", "linger")

    def __init__(
        self, context: Context, sessions: SessionTable, links: LinkTable, dialing: Dialing, resumes: bool
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._links = links
        self.dialing: Dialing = dialing
        self.conversations: Conversations = Conversations(context, sessions, dialing, resumes)
        self.linger: float | None = None
        """Seconds from the last acknowledgement to the end of an idle conversation; None: it does not end."""

    # -- connections -----------------------------------------------------------------------------------

    def connected(self, session: Session, address: str, now: float) -> Link | None:
        """Make the link for a new connection of the session. None: close it, it is not needed any more."""
        # With two connections the server would receive and count the same units twice.
        if session.error is not None or (session.link is not None and not session.link.closed):
            return None
        context = self._context
        session.generation.epoch += 1
        self.dialing.reached(session, address)
        framing = context.settings.framing
        link: Link
        if isinstance(framing, PlainFraming):
            link = plain = PlainLink(self, context, address, now, framing)
            plain.carry(session)
            session.attach(link)
            self._links.add(link)
            if not context.settings.secure:
                self._plain_is_up(session)
        else:
            link = LinkedLink(self, context, address, now, self._handshake(session, now))
            link.session = session
            session.attach(link)
            self._links.add(link)
        context.effects.to_write.append(link)
        if context.effects.reports("debug"):
            reports.handshake(context, address, "the connection is open, the handshake begins")
        return link

    def _handshake(self, session: Session, now: float) -> ClientHandshake:
        generation, sending = session.generation, session.sending
        # Only on the first connection: later the server may have received units already. Not with a secret,
        # which the server checks first. Not with a store, which must first record that something is sent.
        may_send_early = (
            generation.epoch == 1 and self._context.settings.secrets is None and session.record is None
        )
        if may_send_early:
            generation.began_at = generation.began_at or now
        # If units were written and none was acknowledged, the server must find out whether it ran at
        # that time. So HELLO waits for the server's preface, and contains the age of the session.
        is_fresh = not sending.acked and not session.receiving.arrived
        is_unheard = is_fresh and (sending.sent > 0 or generation.established)
        began_at = generation.began_at if is_unheard else None
        return ClientHandshake(self._context, self._hello(session), sending.sent, may_send_early, began_at)

    def _hello(self, session: Session) -> Hello:
        settings, generation = self._context.settings, session.generation
        return Hello(
            pattern=self._context.pattern.name,
            format=settings.format_name,
            name=settings.name,
            session=session.peer.id,
            epoch=generation.epoch,
            credit=session.credit(),
            message=self._context.limits.message,
            received=session.receiving.arrived,
            resumes=session.resumes,
            born=generation.born,
            incarnation=generation.incarnation,
        )

    def _plain_is_up(self, session: Session) -> None:
        session.timer.stop()
        link, peer = session.link, session.peer
        if isinstance(link, Link) and link.address != peer.address:  # One of several addresses.
            session.rename(Peer(link.address, link.address, peer.id, peer.connected_at))
        self._sessions.announce_up(session, EventKind.CONNECTED)

    def shake_hands(
        self, link: LinkedLink, handshake: ClientHandshake, data: bytes, now: float
    ) -> bytes | None:
        """Process bytes of the handshake. Return the bytes behind it once the link is open, else None."""
        view, has_moved = memoryview(data), False
        self._context.effects.to_write.append(link)
        try:
            while link.state is State.HANDSHAKE:
                step, view = bytes(view[:STEP]), view[STEP:]
                answer = handshake.feed(step, now)
                has_moved = has_moved or handshake.has_moved
                if isinstance(answer, Welcome):
                    self._welcomed(link, handshake, answer, now)
                elif answer is not None:
                    self._refused_by(link, answer, now)
                if not view:
                    break
        except NotLinkbox as error:
            self._context.effects.log_limited(UNAUTHENTICATED, f"{link.address}: {error}")
            link.abort(error)
        except ProtocolViolation as error:
            link.violated(error)
        if link.state is State.OPEN:
            return bytes(view)
        if link.state is State.HANDSHAKE:
            link.watch_progress(handshake.buffered(), has_moved, now)
        return None

    # -- what links report -----------------------------------------------------------------------------

    def link_closed(self, link: Link, error: Exception | None) -> None:
        self._links.closed(link, error)

    def secured(self, link: Link, now: float) -> None:
        self._context.effects.now = now
        if isinstance(link, PlainLink) and link.session is not None:
            link.open(link.session)
            self._plain_is_up(link.session)
        self._context.effects.to_write.append(link)

    def insecure(self, link: Link, error: LinkError, now: float) -> None:
        """The TLS handshake failed. If authentication failed, do not connect again."""
        self._context.effects.now = now
        session = link.session
        if isinstance(error, AuthenticationFailed):
            self.refused(link, error, False, now)
        elif session is not None and session.is_plain and session.link is link:
            session.detach()
            self.dialing.failed(session, error, now)
        link.abort(error)

    def ask_frame(self, session: Session, kind: int, payload: bytes, now: float) -> Arrival | None:
        return self._sessions.client_asks.on_frame(session, kind, payload)

    def plain_messages(self, session: Session, payloads: list[bytes]) -> list[Arrival]:
        if self._context.pattern.asks:
            return self._sessions.client_asks.on_plain(session, payloads)
        return [Arrival(session, [*payloads], session.receiving.arrived)]

    def plain_rest(self, session: Session) -> list[Arrival]:
        return self._sessions.client_asks.on_plain_eof(session) if self._context.pattern.asks else []

    def plain_error(self, link: Link, error: LinkboxError) -> None:
        self._context.counters.rejected += 1
        peer = None if link.session is None else link.session.peer
        self._context.effects.emit(EventKind.ERROR, peer, error)

    # -- welcome ---------------------------------------------------------------------------------------

    def _welcomed(self, link: LinkedLink, handshake: ClientHandshake, welcome: Welcome, now: float) -> None:
        session = link.session
        assert session is not None
        verdict = on_welcome(
            was_used=session.generation.established or handshake.sent_before > 0,
            is_resumed=welcome.resumed,
            is_acknowledged=bool(session.sending.acked or session.receiving.arrived),
            has_store=session.record is not None,
            is_new=welcome.is_new,
            is_finished=is_finished(session),
        )
        if verdict is WelcomeVerdict.CONFIRMED:
            self._sessions.close_session(session, None)
            return
        if verdict is WelcomeVerdict.FORGOTTEN:
            session = self.conversations.start_over(link, session)
        elif verdict is WelcomeVerdict.NOTHING_ARRIVED:
            self._go_on(session, 0)
        elif verdict is WelcomeVerdict.RESUME:
            self._go_on(session, welcome.received)
        self._open(link, session, welcome, now)

    def _open(self, link: LinkedLink, session: Session, welcome: Welcome, now: float) -> None:
        generation = session.generation
        generation.incarnation, generation.born = welcome.incarnation, welcome.born
        generation.began_at = generation.began_at or now  # Nothing was written before, except with HELLO.
        session.timer.stop()
        largest = welcome.message if session.record is None else ENDLESS
        session.sending.welcome(welcome.credit, largest, welcome.resumed)
        kind = EventKind.RESUMED if generation.established and welcome.resumed else EventKind.CONNECTED
        if kind is EventKind.CONNECTED:
            session.rename(Peer(welcome.name, link.address, session.peer.id, self._context.wall_time(now)))
        else:
            self._context.counters.reconnects += 1
            session.attempts.renewals = 0
        link.open(session, now)
        self._context.effects.to_write.append(link)
        self._sessions.announce_up(session, kind)

    def _go_on(self, session: Session, received: int) -> None:
        """Continue after the last unit that the server has received."""
        if session.record is None:
            session.rewind(received)
        else:
            session.record.resume(received)

    # -- refusals --------------------------------------------------------------------------------------

    def _refused_by(self, link: LinkedLink, refuse: Refuse, now: float) -> None:
        error = handshake_messages.refusal(refuse, link.address)
        self.refused(link, error, refuse.code in TRY_AGAIN, now)
        link.abort(error)

    def refused(self, link: Link, error: LinkError, may_pass: bool, now: float) -> None:
        session = link.session
        assert session is not None
        self._context.counters.refused += 1
        self._context.failed(error)
        if self._context.effects.reports("info"):
            self._context.effects.log(
                "info", f"refused: {error}", "refused", session.peer, {"reason": str(error)}
            )
        session.detach()
        self.dialing.broke(session, error, now)
        handshake = link.handshake if isinstance(link, LinkedLink) else None
        if (
            isinstance(handshake, ClientHandshake)
            and not session.generation.established
            and session.record is None
        ):
            session.rewind(handshake.sent_before)  # The server has processed nothing behind this HELLO.
        self._refused(session, error, may_pass, now)

    def connect_refused(self, session: Session, error: LinkError, now: float) -> None:
        """The session has no connection, and was refused one: by a broker, for example."""
        self._context.counters.refused += 1
        self._refused(session, error, False, now)

    def _refused(self, session: Session, error: LinkError, may_pass: bool, now: float) -> None:
        if session.record is not None:
            self._context.effects.emit(EventKind.ERROR, session.peer, error)
            self._context.effects.to_wake.append(self._sessions.changed)
        if may_pass or session.record is not None:
            self.dialing.failed(session, error, now)
        else:
            self.dialing.give_up(session, error)

    def going_away(self, link: Link, session: Session, accepted: int) -> None:
        """The server is stopping: keep what it has not accepted for the server that follows it."""
        sending = session.sending
        if not sending.acked <= accepted <= sending.sent:
            sending.on_ack(accepted, sending.taken, 0, 0)  # raises
        self._sessions.acked(session, sending.forget(accepted))
        session.rewind(accepted)
        sending.most_sent = accepted
        _, unsent = sending.abandon()
        session.detach()
        if session.record is not None:
            self.conversations.follow(session, unsent)
        else:
            self.conversations.leave(session, unsent)
        link.close_soon(self._context.effects.now)
        self._context.effects.to_write.append(link)

    # -- what sessions report --------------------------------------------------------------------------

    def session_acked(self, session: Session) -> None:
        if self.linger is None or session.in_flight() or session.is_ending:
            return
        if self.linger:  # seconds that an idle conversation waits for more to send
            session.timer.wake_at(self._context.effects.now + self.linger)
        else:
            session.end()

    def peer_ended(self, session: Session) -> None:
        mailbox = self._context.mailbox
        if self._context.settings.comes_back:
            return
        if self._context.pattern.server_sends and mailbox.end_reason is None:
            mailbox.end_reason = session.receiving.end_reason

    def session_due(self, session: Session, now: float) -> None:
        """Connect again; or, if the session is idle, end it (see ``linger``)."""
        if session.is_up:
            if not session.in_flight():
                session.end()
        else:
            self.dialing.is_due(session, now)

    def session_up(self, session: Session) -> None:
        session.attempts.connected_at = self._context.effects.now
        session.attempts.began_at = NEVER
        link = session.link
        assert isinstance(link, Link)
        self.dialing.welcomed(session, link.address)

    def session_dropped(self, session: Session, error: Exception) -> None:
        """The connection broke: connect again if the session can continue, else close it."""
        now = self._context.effects.now
        self.dialing.broke(session, error, now)
        is_established, is_stopping = session.generation.established, self._context.is_stopping
        if (is_established and not self.conversations.resumes) or (
            is_stopping and session.record is not None
        ):
            self._sessions.close_session(session, _lost(error))
        elif (not is_established and not session.sending.sent) or (
            self.conversations.resumes
            and self.dialing.reconnect is not None
            and (session.in_flight() or not is_stopping)
        ):
            self.dialing.failed(session, error, now)
        else:
            self._sessions.close_session(session, _lost(error))

    def ask_closed(self, session: Session) -> None:
        self.conversations.ask_closed()

    def goes_on(self, session: Session) -> bool:
        return self.conversations.pause_after(session) is not None

    def session_closed(self, session: Session, error: Exception | None) -> None:
        self.dialing.forget(session)
        if self.conversations.come_back(session):
            return
        mailbox = self._context.mailbox
        is_kept = session.record is not None and self._context.is_stopping
        # With a store, nothing has failed when this end stops: everything that is left stays there.
        if self.conversations.main is session and self._context.pattern.server_sends:
            if mailbox.end_reason is None and not (is_kept or isinstance(error, SessionLost)):
                mailbox.end_reason = session.error
        elif self.conversations.main is session:
            self.conversations.main = None
        if session.is_plain and self._context.pattern.asks:
            self.conversations.closed(session)
        if isinstance(error, LinkboxError) and not (is_kept or _is_reported(session, error)):
            self._context.effects.emit(EventKind.ERROR, session.peer, error)

    # -- stopping --------------------------------------------------------------------------------------

    def shutdown(self, now: float) -> None:
        """Send what is left, then END, then close."""
        for session in list(self._sessions.by_id.values()):
            if session.link is None and session.record is not None:
                error = PeerLost(f"{session.peer} was not there when this end stopped")
                self._sessions.close_session(session, error)
            # If nothing is waiting to be sent, do not wait for a server that has not responded.
            elif not session.in_flight() and (session.link is None or not session.generation.established):
                self._sessions.close_session(session, None)
            else:
                session.end()


def _is_reported(session: Session, error: LinkboxError) -> bool:
    """Is there an ERROR already, of a message? In P2M, conversations are not the application's business."""
    pattern = session.context.pattern
    is_push = not (pattern.asks or pattern.server_sends)
    return is_push and session.first_failure is error and not isinstance(error, SessionLost)


def _lost(error: Exception) -> Exception:
    """The error of a lost connection, as the application receives it."""
    return error if isinstance(error, (PeerLost, Refused, ConnectFailed)) else PeerLost(str(error))

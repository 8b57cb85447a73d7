"""When to dial, and what a drop means: the client's half of the hub.

A session that wants a connection stands in ``dials`` when it is time; the front end connects and says
`on_connected` or `on_connect_failed`. Until a session was welcomed once, it tries until its
``connect_by``; after a drop it goes on as `Backoff` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from linkbox.core import frames, handshake
from linkbox.core.asks import Ask
from linkbox.core.auth import ClientSide
from linkbox.core.backoff import Backoff
from linkbox.core.hub import Hub
from linkbox.core.journal import in_doubt
from linkbox.core.link import Link, State
from linkbox.core.linked import LinkedLink
from linkbox.core.mailbox import MailboxState, Source
from linkbox.core.record import Row
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Settings
from linkbox.core.units import Delivery
from linkbox.errors import (
    AuthenticationFailed,
    ConnectFailed,
    EndOfData,
    LinkboxError,
    LinkError,
    PeerLost,
    Refused,
    SessionLost,
)
from linkbox.events import EventKind, Peer

_LAST_TRY = 0.05
"""Seconds before the end of ``connect_timeout`` in which the last try is made."""
TRY_AGAIN = ("busy", "limit")
"""Refusals that may be different a moment later."""


class Answer:
    """What stands in a ClientAR's mailbox: the answer to ``receipt``, or why there is none."""

    __slots__ = ("error", "value")

    def __init__(self, value: object, error: Exception | None) -> None:
        self.value = value
        self.error = error


class ClientHub(Hub):
    """The brain of a client."""

    is_client = True

    def __init__(
        self,
        settings: Settings,
        mailbox: MailboxState,
        address: str,
        reconnect: Backoff | None,
        connect_timeout: float,
        random: Callable[[], float],
        resumes: bool,
    ) -> None:
        super().__init__(settings, mailbox)
        self.address = address
        self.reconnect = reconnect
        self.connect_timeout = connect_timeout
        self.random = random
        self.resumes = resumes
        """Does a session outlive its connection?"""
        self.session: Session | None = None
        """The conversation that sends go to; None: the next send begins one."""
        self.linger: float | None = None
        """End an idle conversation so many seconds after its last message was acknowledged."""
        self.dials: list[Session] = []
        """Sessions that want a connection now."""

    # -- conversations ----------------------------------------------------------------------------------

    def begin(self, now: float) -> Session:
        """A new conversation; it wants to be dialled at once."""
        self.now = now
        id = self.settings.entropy(16).hex()
        session = self.make_session(id, Peer(self.address, self.address, id, now + self.settings.wall))
        self._set_out(session, now)
        return session

    def _set_out(self, session: Session, now: float) -> None:
        """Dial it; what a store keeps is dialled for ever."""
        session.connect_by = now + self.connect_timeout if session.record is None else NEVER
        session.resumes = self.resumes
        self.dials.append(session)
        session.due_at = session.connect_by
        self.schedule(session, session.due_at)

    def restore(self, session: Session, row: Row, now: float) -> None:
        """A session that an earlier life of this client has left in the store."""
        session.established = bool(row.incarnation)
        if not session.record.waiting and not session.established:
            self.close_session(session, None)
            session.record.finish()
            return
        session.ending = row.ending or (not session.record.waiting and not self.pattern.server_sends)
        if not session.ending:
            self.session = session
        self._set_out(session, now)

    def current(self, now: float) -> Session:
        """The conversation under way, or a new one."""
        self.now = now
        session = self.session
        if session is None or session.error is not None or session.ending:
            session = self.session = self.begin(now)
        return session

    def idle_session(self) -> Session | None:
        """Over a plain framing: a connection on which no ask is under way."""
        for session in self.sessions.values():
            if session.error is None and not session.ending and not self.asks.is_busy(session):
                return session
        return None

    def patience(self, session: Session, others: int, now: float) -> float:
        """Seconds to try one of the host's addresses, when so many are to be tried after it."""
        left = self.connect_timeout
        if session.connect_by != NEVER and not session.established:
            left = session.connect_by - now
        return max(0.05, left / (others + 1))

    def on_connected(self, session: Session, address: str, now: float) -> Link | None:
        """The connection for a dialled session is there. None: it is not wanted any more."""
        # Two at once would each bring the same units, and both would be counted.
        if session.error is not None or (session.link is not None and not session.link.closed):
            return None
        session.epoch += 1
        link = self.make_link(address, now, session)
        session.link = link
        if isinstance(link, LinkedLink):
            if link.early:
                session.began_at = session.began_at or now
            # Has something been written, and nobody ever acknowledged any of it? Then the server must be able
            # to tell whether it was this one that had it: the age is told when its preface is there
            # (`Hello.age`).
            link.hello_waits = self._is_unheard(session, link)
            if not link.hello_waits:
                link.control.append(self._introduce(link, session, 0.0))
        else:
            link.session = session
            if not self.settings.secure:
                self._plain_is_up(session)
        self.dirty.append(link)
        return link

    def _is_unheard(self, session: Session, link: LinkedLink) -> bool:
        """May the server never have had anything of this session? A server with a store would know."""
        is_fresh = not session.acked and not session.arrived
        return is_fresh and (link.sent_before > 0 or session.established)

    def _plain_is_up(self, session: Session) -> None:
        session.established = session.is_up = True
        session.due_at = NEVER
        self.changed += (self.box, session.box)
        self.emit(EventKind.CONNECTED, session.peer)

    def on_secured(self, link: Link, now: float) -> None:
        """TLS has shaken hands: the link may speak."""
        self.now = now
        if not self.settings.framing.linked and link.session is not None:
            link.state = State.OPEN
            self._plain_is_up(link.session)
        self.dirty.append(link)

    def on_insecure(self, link: Link, error: LinkError, now: float) -> None:
        """TLS has failed to. Whom we do not trust, or who does not trust us, is not asked again."""
        self.now = now
        session = link.session
        if isinstance(error, AuthenticationFailed):
            self._refused(link, error, False, now)
        elif session is not None and session.is_plain and session.link is link:
            session.link = None
            self._dial_again(session, error, now)
        link.abort(error)

    def on_greeted(self, link: LinkedLink, now: float) -> None:
        """The server's preface is there."""
        if link.hello_waits and link.session is not None:
            link.hello_waits = False
            age = now - link.session.began_at
            link.send_control(self._introduce(link, link.session, age))

    def _introduce(self, link: LinkedLink, session: Session, age: float) -> bytes:
        """HELLO; what it says is part of the proof, where one is wanted."""
        hello = handshake.encode(self._hello(session, age))
        if self.settings.secrets is not None:
            link.auth = ClientSide(self.settings.secrets, hello[4:])
        return hello

    def _hello(self, session: Session, age: float) -> handshake.Hello:
        ours = self.settings
        return handshake.Hello(
            pattern=self.pattern.name,
            format=ours.format_name,
            name=ours.name,
            session=session.id,
            epoch=session.epoch,
            credit=session.credit(),
            message=self.limits.message,
            received=session.arrived,
            resumes=session.resumes,
            born=session.born,
            age=age,
            incarnation=session.incarnation,
        )

    def on_connect_failed(self, session: Session, error: Exception, now: float) -> None:
        """Nobody answered. Try again later, or give up."""
        self.now = now
        if session.error is None:
            # A reset is no absence: somebody was there, and dropped the connection.
            is_absent = not isinstance(error.__cause__, ConnectionResetError)
            self._dial_again(session, error, now, is_absent)

    def _dial_again(self, session: Session, error: Exception, now: float, is_absent: bool = False) -> None:
        delay = None
        # Whoever waits for an answer is told at once that the server is not even there any more.
        if self.reconnect is not None and not (is_absent and session.established and self.pattern.asks):
            delay = self.reconnect.delay(session.failures, self.random)
        session.failures += 1
        session.last_failure = error
        if self.is_finished(session) and (delay is None or is_absent):
            self.close_session(session, None)  # Only the last confirmation was missing.
            return
        if delay is None and session.established:
            self.close_session(session, PeerLost(f"{session.peer} is gone, and does not come back: {error}"))
            return
        if delay is None or (not session.established and now >= session.connect_by - _LAST_TRY):
            self.close_session(session, error)
            return
        session.due_at = now + delay
        if not session.established:
            session.due_at = min(session.due_at, session.connect_by - _LAST_TRY)
        self.schedule(session, session.due_at)

    def rescue(self, now: float) -> None:
        super().rescue(now)
        for session in self.sessions.values():
            session.timer_at = NEVER
            if session.link is not None and session.link.closed:
                session.link = None  # closing it was interrupted
            if session.link is None and session.due_at == NEVER and session not in self.dials:
                session.due_at = now + _LAST_TRY  # nobody was left who would have dialled
            self.schedule(session, session.due_at)

    def on_session_due(self, session: Session, now: float) -> None:
        """Time to dial again; or, for an idle one, to end (see `linger`)."""
        if session.error is not None:
            return
        if not session.established and now >= session.connect_by:
            error = ConnectFailed(f"no welcome from {self.address} within {self.connect_timeout:g} s")
            self.close_session(session, session.last_failure or error)
        elif session.link is None:
            self.dials.append(session)
            session.due_at = NEVER if session.established else session.connect_by
        elif not session.held:
            self.end(session)  # Its linger is over.

    # -- what the server says ------------------------------------------------------------------------------

    def on_welcome(self, link: LinkedLink, welcome: handshake.Welcome, now: float) -> None:
        """The server takes us."""
        session = link.session
        assert session is not None
        expected = session.established or link.sent_before > 0
        if expected and not welcome.resumed and self.is_finished(session):
            self.close_session(session, None)  # It only came back to confirm; the server knew already.
            return
        if expected and welcome.is_new and not session.acked and not session.arrived:
            self._go_on(session, 0)  # Nothing of what was written has ever arrived.
            expected = False
        elif expected and not welcome.resumed:
            session = self._start_over(link, session, welcome)
        elif welcome.resumed or session.record is not None:
            self._go_on(session, welcome.received)
        session.incarnation, session.born = welcome.incarnation, welcome.born
        session.began_at = session.began_at or now  # nothing was written before, but what goes early
        session.due_at = NEVER
        session.peer_bytes = max(session.peer_bytes if welcome.resumed else 0, welcome.credit[0])
        session.peer_messages = welcome.credit[1]
        session.peer_message = welcome.message
        kind = EventKind.RESUMED if session.established and welcome.resumed else EventKind.CONNECTED
        if kind is EventKind.CONNECTED:
            session.peer = Peer(welcome.name, link.address, session.id, now + self.settings.wall)
            session.source.peer = session.peer
        else:
            self.counters.reconnects += 1
        session.established = session.is_up = True
        link.open(session, now)
        self.dirty.append(link)
        self.changed += (self.box, session.box)
        self.emit(kind, session.peer)

    def _go_on(self, session: Session, received: int) -> None:
        """The server has so many units of it."""
        if session.record is None:
            session.rewind(received)
        else:
            session.record.resume(received)

    def _start_over(self, link: LinkedLink, old: Session, welcome: handshake.Welcome) -> Session:
        """The server has forgotten us: what was never sent moves over, the rest is in doubt."""
        old.link = None
        doubt, unsent = old.abandon()
        if old.record is not None:
            new = self.new_session(old.id, old.peer)
            self._hand_over(old, new, doubt, unsent)
            new.link, link.session = link, new
            return new
        error = in_doubt(old, doubt)
        for delivery in doubt:
            self.fail_delivery(old, delivery, error)
        carries_on = self.session is old
        self.close_session(old, error)
        new = self.make_session(old.id, old.peer)
        new.epoch, new.ending = old.epoch, old.ending
        # Asks have failed with the old session: a server that was restarted may have half of one.
        self._move(old, [each for each in unsent if each.kind == frames.DATA], new)
        if carries_on:
            self.session = new
        new.link, link.session = link, new
        return new

    def _hand_over(self, old: Session, new: Session, doubt: list[Delivery], unsent: list[Delivery]) -> None:
        """The same where there is a store: it finds out what is in doubt, and carries on with the rest."""
        assert self.journal is not None
        new.epoch, new.ending, new.resumes = old.epoch, old.ending, old.resumes
        self.journal.restart(old, new, doubt, unsent)
        old.successor = new
        if self.session is old:
            self.session = new
        self.close_session(old, None)
        self.sessions[new.id] = new

    def _move(self, old: Session, unsent: list[Delivery], new: Session) -> None:
        old.successor = new
        for delivery in unsent:
            if delivery.error is None:
                delivery.session = new
                new.send_frame(delivery) if delivery.kind != frames.DATA else new.adopt(delivery)
                if delivery.id in self.asks.waiting:
                    self.asks.waiting[delivery.id].session = new

    def on_refuse(self, link: LinkedLink, refuse: handshake.Refuse, now: float) -> None:
        """The server does not take us."""
        self._refused(link, handshake.refusal(refuse, link.address), refuse.code in TRY_AGAIN, now)

    def _refused(self, link: Link, error: LinkError, may_pass: bool, now: float) -> None:
        session = link.session
        assert session is not None
        self.counters.refused += 1
        session.link = None
        if isinstance(link, LinkedLink) and not session.established and session.record is None:
            session.rewind(link.sent_before)  # Nothing that stood behind this HELLO was looked at.
        if session.record is not None:
            self.emit(EventKind.ERROR, session.peer, error)
            self.changed.append(self.box)
        if may_pass or session.record is not None:
            self._dial_again(session, error, now)
        else:
            self.close_session(session, error)

    def on_goaway(self, link: LinkedLink, session: Session, accepted: int) -> None:
        """The server stops. What it has not accepted goes to whoever comes after it."""
        if not session.acked <= accepted <= session.sent:
            session.on_ack(accepted, session.taken, 0, 0)  # raises
        self.on_acked(session, session.forget(accepted))
        session.rewind(accepted)
        session.most_sent = accepted
        _, unsent = session.abandon()
        if session.record is not None:
            session.link = None
            self._follow(session, unsent)
            link.close_soon(self.now)
            self.dirty.append(link)
            return
        error = PeerLost(f"{session.peer} was stopped")
        session.link = None
        ending = session.ending
        waiting = [each for each in self.asks.waiting.values() if each.session is session]
        # An ask moves as a whole, or not at all.
        counts = Counter(each.id for each in unsent if each.kind == frames.ASK)
        moved = {ask.id for ask in waiting if ask.frames == counts[ask.id]}
        unsent = [each for each in unsent if each.kind == frames.DATA or each.id in moved]
        if unsent and self.reconnect is not None and not self.stopping:
            new = self.begin(self.now)
            new.ending = ending
            self._move(session, unsent, new)
            if self.session is session:
                self.session = new
        else:
            for delivery in unsent:
                self.fail_delivery(session, delivery, error)
        for ask in waiting:
            if ask.id not in moved:
                self.asks.settle(ask, None, error)
        self.close_session(session, error if waiting or not ending else None)
        link.close_soon(self.now)
        self.dirty.append(link)

    def _follow(self, old: Session, unsent: list[Delivery]) -> None:
        """The server stops, and what it has not accepted is in the store: a new session takes it over."""
        if not unsent and not old.held:
            self.close_session(old, None)
            old.record.finish()  # There is nothing that another life would have to say.
            return
        if self.stopping:
            self.undelivered += len(unsent)
            self.close_session(old, PeerLost(f"{old.peer} was stopped"))
            return
        new = self.new_session(self.settings.entropy(16).hex(), old.peer)
        self._hand_over(old, new, [], unsent)
        new.epoch = 0
        self._set_out(new, self.now)

    def on_acked(self, session: Session, done: list[Any]) -> None:
        super().on_acked(session, done)
        if self.linger is not None and not session.held and not session.ending:
            self.linger_on(session)

    def linger_on(self, session: Session) -> None:
        """All it had to say is said: wait a while for more, then end."""
        assert self.linger is not None
        if self.linger:
            session.due_at = self.now + self.linger
            self.schedule(session, session.due_at)
        else:
            self.end(session)

    def on_peer_ended(self, session: Session) -> None:
        if self.pattern.server_sends and self.mailbox.over is None:
            self.mailbox.over = session.source.ended

    def on_dropped(self, session: Session, error: Exception) -> None:
        """The connection broke: come back, if that makes sense."""
        self.announce_down(session, error)
        if (session.established and not self.resumes) or (self.stopping and session.record is not None):
            self.close_session(session, _lost(error))
        elif not session.established and not session.sent:
            self._dial_again(session, error, self.now)
        elif self.resumes and self.reconnect is not None and not (self.stopping and not session.held):
            progress = session.acked + session.arrived
            if progress > session.progress:  # else it drops again and again: do not hammer
                session.progress, session.failures = progress, 0
            self._dial_again(session, error, self.now)
        else:
            self.close_session(session, _lost(error))

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        fresh = session.error is None
        super().close_session(session, error, is_known)
        if not fresh:
            return
        if session in self.dials:
            self.dials.remove(session)
        if self.session is session and self.pattern.server_sends:
            if self.mailbox.over is None and not isinstance(error, SessionLost):
                self.mailbox.over = error or EndOfData(f"the conversation with {session.peer} is over")
        elif self.session is session:
            self.session = None
        if isinstance(error, LinkboxError):
            self.emit(EventKind.ERROR, session.peer, error)

    # -- asks ------------------------------------------------------------------------------------------------

    def on_answered(self, ask: Ask) -> None:
        self.changed.append(ask.box)
        session = ask.session
        if session.is_plain and session is not self.session and session.error is None:
            self.end(session)  # Its connection was for this ask, or there are more than one is enough for.
        if ask.to_mailbox:
            answer = Answer(ask.value, ask.error)
            # Not the session's own source: answers are counted by their asks, not as units.
            source = Source(session.peer, _do_nothing)
            batch = self.mailbox.put(source, (answer,), 1, 0, self.now + self.settings.wall)
            batch.receipt = ask.receipt
            self.changed.append(self.mailbox.box)
            self.emit(EventKind.DATA, session.peer)

    # -- the upper seam, as far as it has other names than the hub (an adapter) ----------------------------

    @property
    def conversation(self) -> Session | None:
        """The conversation that sends go to; None: the next send begins one."""
        return self.session

    def connect_within(self, session: Session, deadline: float) -> None:
        """Give up connecting at that time, if not earlier."""
        session.connect_by = min(session.connect_by, deadline)

    # -- stopping --------------------------------------------------------------------------------------------

    def shutdown(self, now: float) -> None:
        """Send what is left, say END, close."""
        self.now = now
        self.stopping = True
        for session in list(self.sessions.values()):
            if session.link is None and session.record is not None:
                self.close_session(session, PeerLost(f"{session.peer} was not there when this end stopped"))
            # Nothing was said yet: then a server that does not answer is not waited for either.
            elif not session.held and (session.link is None or not session.established):
                self.close_session(session, None)
            else:
                self.end(session)


def _do_nothing() -> None:
    """Nobody needs to know that an answer was taken."""


def _lost(error: Exception) -> Exception:
    """A drop as the application sees it: the peer is lost."""
    return error if isinstance(error, (PeerLost, Refused, ConnectFailed)) else PeerLost(str(error))

"""Who comes in: the server's half of the hub."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from linkbox.core import frames, handshake
from linkbox.core.hub import Hub
from linkbox.core.link import Link, State
from linkbox.core.linked import LinkedLink
from linkbox.core.mailbox import Box, MailboxState
from linkbox.core.record import Row
from linkbox.core.session import NEVER, Session
from linkbox.core.settings import Settings
from linkbox.core.units import Delivery
from linkbox.errors import LinkboxError, LinkError, PeerLost, ProtocolViolation
from linkbox.events import EventKind, Peer, PeerInfo

CONFIRM = 60.0
"""Seconds that an ended session is kept, when its last confirmation may have been lost."""
STRANGERS_LEAVE = 0.25
"""Seconds that a stopping server gives to connections it does not know yet."""
PING_WAIT = 2.0
"""Seconds in which a silent peer must show that it lives, when somebody else wants its place."""


class Applicant:
    """A client that waits because all places look taken: the silent peers have been pinged."""

    __slots__ = ("asked_at", "hello", "hub", "link", "timer_at")

    def __init__(self, hub: ServerHub, link: LinkedLink, hello: handshake.Hello, asked_at: float) -> None:
        self.hub = hub
        self.link = link
        self.hello = hello
        self.asked_at = asked_at
        self.timer_at = NEVER

    def next_timer(self) -> float:
        """When whoever has not answered the ping loses its place."""
        return self.asked_at + PING_WAIT if self in self.hub.applicants else NEVER

    def handle_timer(self, now: float) -> None:
        """The peers have had their time."""
        if now >= self.next_timer():
            self.hub.decide(self, now)


class Newcomer(NamedTuple):
    """Somebody on whom the application is to decide (``accept=``)."""

    link: Link
    hello: handshake.Hello | None
    """What it said of itself; None over a plain framing."""
    info: PeerInfo


class ServerHub(Hub):
    """The brain of a server."""

    def __init__(self, settings: Settings, mailbox: MailboxState, max_peers: int, now: float = 0.0) -> None:
        super().__init__(settings, mailbox)
        self.max_peers = max_peers
        self.max_links = self.limits.connections
        """The front end lowers it to what its descriptors allow."""
        self.strangers: dict[Link, str | None] = {}
        """Links without a welcome, and the IP address they count for (None: exempt)."""
        self.applicants: list[Applicant] = []
        self.newcomers: deque[Newcomer] = deque()
        """Those the front end is to ask ``accept=`` about, and then to call `decide_on` for."""
        self.newcomers_box = Box()
        self.knows_since = now
        """Since then no session was forgotten whose peer may not know that it is over."""

    # -- connections ----------------------------------------------------------------------------------

    def is_crowded(self) -> bool:
        """Are there as many unwelcomed connections as may be? Who comes now waits in the kernel's queue."""
        return len(self.strangers) >= self.limits.unwelcomed

    def accept(self, address: str, ip: str | None, now: float) -> Link | None:
        """A connection came in. None: close it at once, a limit is reached.

        ``ip`` is what the per-address limit counts by; None (loopback, unix) is exempt.
        """
        limits = self.limits
        crowd = sum(1 for each in self.strangers.values() if each == ip) if ip is not None else 0
        full = len(self.strangers) >= limits.unwelcomed or len(self.links) >= self.max_links
        if full or crowd >= limits.unwelcomed_per_ip:
            self.counters.refused += 1
            return None
        is_plain = not self.settings.framing.linked
        if is_plain and self._is_full_for(address):
            return None
        link = self.make_link(address, now)
        self.strangers[link] = ip
        if is_plain and not self.settings.secure:
            self._meet_plain(link, now)
        return link

    def _is_full_for(self, address: str) -> bool:
        """Is there no place for one more over a plain framing? Then say so in the log."""
        is_full = len(self.sessions) >= self.max_peers
        if is_full:
            self._turn_away(address, f"all {self.max_peers} places are taken")
        return is_full

    def _turn_away(self, address: str, reason: str) -> None:
        self.counters.refused += 1
        self.note_stranger(f"{address} was turned away: {reason}")

    def _meet_plain(self, link: Link, now: float) -> None:
        """All is known of a plain peer that ever will be."""
        if self.settings.asks_first:
            link.paused = True
            self._ask_first(link, None)
        else:
            self._admit_plain(link, now)

    def _admit_plain(self, link: Link, now: float) -> None:
        self.strangers.pop(link, None)
        id = self.settings.entropy(16).hex()
        peer = Peer(link.address, link.address, id, now + self.settings.wall, link.identity)
        session = self.make_session(id, peer)
        link.session, session.link, link.state = session, link, State.OPEN
        self._announce(session, EventKind.CONNECTED)
        if self.mailbox.is_crowded():
            self._pause(session)

    # -- TLS ------------------------------------------------------------------------------------------

    def on_secured(self, link: Link, now: float) -> None:
        """TLS has shaken hands: the link may speak."""
        self.now = now
        if self.settings.framing.linked:
            pass  # It introduces itself.
        elif self._is_full_for(link.address):
            link.abort(None)
        else:
            self._meet_plain(link, now)
        self.dirty.append(link)

    def on_insecure(self, link: Link, error: LinkError, now: float) -> None:
        """TLS has failed to: let the last of it be written, as after any refusal."""
        self.now = now
        link.error = error
        self._turn_away(link.address, str(error))
        link.close_soon(now)
        self.dirty.append(link)

    # -- accept= --------------------------------------------------------------------------------------

    def _ask_first(self, link: Link, hello: handshake.Hello | None) -> None:
        """Let the application decide; its answer comes back through `decide_on`."""
        name = link.address if hello is None else hello.name
        info = PeerInfo(link.address, name, link.identity if hello is None else self._identity(link, hello))
        self.newcomers.append(Newcomer(link, hello, info))
        self.changed.append(self.newcomers_box)
        self.dirty.append(link)

    def decide_on(self, newcomer: Newcomer, is_welcome: bool, now: float) -> None:
        """What the application has said."""
        self.now = now
        link, hello = newcomer.link, newcomer.hello
        if link.state is not State.GREETING:
            return  # It has gone, or waited too long.
        if isinstance(link, LinkedLink) and hello is not None:
            no = self._objection(hello) if is_welcome else ("denied", "this server does not let you in")
            if no is not None:
                self._refuse(link, *no, now)
            else:
                self._enter(link, hello, now)
        elif not is_welcome:
            self._turn_away(link.address, "accept= said no")
            link.abort(None)
        elif self._is_full_for(link.address):
            link.abort(None)
        else:
            link.paused = False
            self._admit_plain(link, now)
        self.dirty.append(link)
        self.unread.append(link)

    def _announce(self, session: Session, kind: EventKind) -> None:
        session.established = session.is_up = True
        self.changed.append(self.box)
        self.emit(kind, session.peer)

    def on_hello(self, link: LinkedLink, hello: handshake.Hello, now: float) -> None:
        """A client says who it is and what it wants."""
        no = self._objection(hello)
        if no is not None:
            self._refuse(link, *no, now)
        elif self.settings.asks_first:
            self._ask_first(link, hello)
        else:
            self._enter(link, hello, now)

    def _enter(self, link: LinkedLink, hello: handshake.Hello, now: float) -> None:
        """Nothing speaks against this client but, perhaps, the want of a place."""
        known = self.sessions.get(hello.session)
        if known is not None:
            self._resume(link, known, hello, now)
        elif self._has_place():
            self._admit(link, hello, now)
        else:
            self._let_wait(link, hello, now)

    def _objection(self, hello: handshake.Hello) -> tuple[str, str] | None:
        ours = self.settings
        if hello.pattern != self.pattern.name:
            return "pattern", f"this is a server for {self.pattern.name}, the client is for {hello.pattern}"
        if hello.format != ours.format_name:
            return "format", f"the format here is {ours.format_name}, the client's is {hello.format}"
        if hello.session in self.sessions:
            return None
        if self.stopping:
            return "limit", "the server is stopping"
        # What a newcomer says first needs no credit: many short lives would add up to any size.
        return ("limit", "the mailbox is full") if self.mailbox.is_crowded() else None

    def on_unproven(self, link: LinkedLink, reason: str, now: float) -> None:
        """A client does not know the secret."""
        self._refuse(link, "authentication", reason, now)

    def _refuse(self, link: LinkedLink, code: str, reason: str, now: float) -> None:
        self.counters.refused += 1
        self.note_stranger(f"{link.address} was refused ({code}): {reason}")
        link.refuse(code, reason, now)

    def _has_place(self) -> bool:
        """A place belongs to a live connection: a session that lost its own gives way."""
        if len(self.sessions) < self.max_peers:
            return True
        for session in self.sessions.values():
            if session.link is None:
                self.close_session(
                    session, PeerLost(f"{session.peer} was disconnected, and its place was needed")
                )
                return True
        return False

    def _admit(self, link: LinkedLink, hello: handshake.Hello, now: float) -> None:
        identity = self._identity(link, hello)
        peer = Peer(hello.name, link.address, hello.session, now + self.settings.wall, identity)
        session = self.make_session(hello.session, peer)
        session.born = hello.epoch
        self._welcome(link, session, hello, False, now)
        self._announce(session, EventKind.CONNECTED)

    def _identity(self, link: Link, hello: handshake.Hello) -> str | None:
        """Its name, where that was proven: by its certificate, or else by a secret that is its alone."""
        return link.identity or (hello.name if self.settings.identifies else None)

    def _welcome(
        self, link: LinkedLink, session: Session, hello: handshake.Hello, resumed: bool, now: float
    ) -> None:
        self.strangers.pop(link, None)
        session.epoch = hello.epoch
        session.resumes = hello.resumes
        session.link = link
        session.due_at = NEVER
        session.peer_bytes = max(session.peer_bytes if resumed else 0, hello.credit[0])
        session.peer_messages = max(session.peer_messages if resumed else 0, hello.credit[1])
        session.peer_message = hello.message
        credit = session.credit()
        welcome = handshake.Welcome(
            self.settings.name,
            self.incarnation,
            credit,
            self.limits.message,
            session.arrived,
            resumed,
            born=session.born,
            is_new=not resumed and hello.age > 0 and link.opened_at - hello.age > self.knows_since,
        )
        link.control.append(handshake.encode(welcome))
        link.open(session, now)
        self.dirty.append(link)

    def _resume(self, link: LinkedLink, session: Session, hello: handshake.Hello, now: float) -> None:
        if session.peer.identity != self._identity(link, hello):
            self._refuse(link, "session", "this session is another client's", now)
            return
        if hello.epoch <= session.epoch:
            self._refuse(link, "session", f"a newer connection of this session exists ({session.epoch})", now)
            return
        # A session that the server had to begin anew, without the client knowing, holds nothing of it.
        is_same = hello.born == session.born
        received = hello.received if is_same else 0
        if session.record is None:
            session.rewind(received)
        else:
            session.record.resume(received)
        old, session.link = session.link, None
        if old is not None:
            old.abort(PeerLost(f"{session.peer} came back on another connection"))
            self.announce_down(session, None)
        self._welcome(link, session, hello, is_same, now)
        self.counters.reconnects += 1
        self._announce(session, EventKind.RESUMED if is_same else EventKind.CONNECTED)

    # -- all places taken ---------------------------------------------------------------------------------

    def _let_wait(self, link: LinkedLink, hello: handshake.Hello, now: float) -> None:
        """Peers that may be dead are asked for a sign of life before a newcomer is turned away."""
        silent = [each for each in self._live_links() if now - each.heard_at > PING_WAIT]
        if not silent:
            self._refuse_busy(link, now)
            return
        for each in silent:
            each.ping(now)
        applicant = Applicant(self, link, hello, now)
        self.applicants.append(applicant)
        self.schedule(applicant, applicant.next_timer())

    def _live_links(self) -> list[Any]:
        return [each.link for each in self.sessions.values() if each.link is not None]

    def _refuse_busy(self, link: LinkedLink, now: float) -> None:
        places = "the place is" if self.max_peers == 1 else f"all {self.max_peers} places are"
        self._refuse(link, "busy", f"{places} taken", now)

    def decide(self, applicant: Applicant, now: float) -> None:
        """The applicant has waited long enough: a peer that has not answered the ping makes room."""
        self.applicants.remove(applicant)
        if applicant.link.state is not State.GREETING:
            return
        for link in self._live_links():
            if link.heard_at < applicant.asked_at:
                session = link.session
                self.close_session(
                    session, PeerLost(f"{session.peer} gave no sign of life, and its place was needed")
                )
                break
        if self._has_place():
            self._admit_late(applicant, now)
        else:
            self._refuse_busy(applicant.link, now)

    def on_place_free(self) -> None:
        """A link or a session is gone: does somebody wait for the place?"""
        self.applicants = [each for each in self.applicants if each.link.state is State.GREETING]
        while self.applicants and self._has_place():
            self._admit_late(self.applicants.pop(0), self.now)

    def _admit_late(self, applicant: Applicant, now: float) -> None:
        self._admit(applicant.link, applicant.hello, now)
        self.unread.append(applicant.link)

    # -- links and sessions that end ------------------------------------------------------------------------

    def on_link_closed(self, link: Link, error: Exception | None) -> None:
        was_stranger = self.strangers.pop(link, _NOBODY) is not _NOBODY
        if was_stranger and error is not None and not isinstance(error, ProtocolViolation):  # those are named
            self.note_stranger(str(error), "info")
        super().on_link_closed(link, error)
        self.on_place_free()

    def on_dropped(self, session: Session, error: Exception) -> None:
        """Keep the session for its peer to come back, as long as there is room for such."""
        has_ended = session.source.ended is not None
        self.announce_down(session, None if has_ended and isinstance(error, PeerLost) else error)
        dropped = [each for each in self.sessions.values() if each.link is None]
        is_too_much = len(dropped) > self.limits.sessions or (
            # Half a message is kept too; and whoever leaves many of them behind may never come back.
            bool(session.assembly)
            and sum(each.assembly.size for each in dropped if each is not session and each.assembly)
            > self.limits.mailbox_total
        )
        if self.stopping or not session.resumes or is_too_much:
            self.close_session(session, None if self.is_finished(session) else error)
            return
        if session.record is not None:
            self._await_return(session)
            return
        session.due_at = self.now + (min(CONFIRM, self.limits.session) if has_ended else self.limits.session)
        self.schedule(session, session.due_at)

    def _await_return(self, session: Session) -> None:
        """Keep what is in the store for long."""
        session.due_at = self.now + self.limits.stored_session
        self.schedule(session, session.due_at)

    def restore(self, session: Session, row: Row, now: float) -> None:
        """A session that an earlier life of this server has left in the store."""
        session.established = True
        session.ending = row.ending
        self.now = now
        self._await_return(session)

    def on_session_due(self, session: Session, now: float) -> None:
        """Its peer did not come back in time."""
        lost = PeerLost(f"{session.peer} did not come back in {self.limits.session:g} s")
        self.close_session(session, None if self.is_finished(session) else lost)

    def close_session(self, session: Session, error: Exception | None, is_known: bool = False) -> None:
        if session.error is None and session.resumes and not is_known:
            self.knows_since = max(self.knows_since, self.now)
        super().close_session(session, error)

    # -- the upper seam, as far as it has other names than the hub (an adapter) ---------------------------

    @property
    def pending_accepts(self) -> deque[Newcomer]:
        """Those that ``accept=`` is to be asked about; then call `decide_on`."""
        return self.newcomers

    def channel_of(self, peer: Peer) -> Session | None:
        """The conversation with this peer, if there is one."""
        return self.sessions.get(peer.id)

    # -- stopping -----------------------------------------------------------------------------------------

    def shutdown(self, now: float) -> None:
        """Close in order: say the END, or go away, once everything is said."""
        self.now = now
        self.stopping = True
        for link in list(self.strangers):  # they get a refusal, if they introduce themselves soon
            link.opened_at = min(link.opened_at, now + STRANGERS_LEAVE - self.limits.handshake)
            self.schedule(link, now + STRANGERS_LEAVE)
        for session in list(self.sessions.values()):
            if session.link is None:
                lost = bool(session.held)
                error = PeerLost(f"{session.peer} was disconnected when this end stopped") if lost else None
                self.close_session(session, error)
            elif session.record is not None and session.peer_end is None and not session.ending:
                session.link.send_control(frames.encode_ack(*session.marks()))
                self._part(session, None)  # It comes back to the next life of this server.
            elif self.pattern.stop_ends or session.is_plain or session.peer_end is not None:
                self.end(session)
            else:
                self._go_away(session)

    def _go_away(self, session: Session) -> None:
        """Tell the client that this server stops, and which of its units were accepted.

        Answers that are due, or on their way, come first: this is tried again after each.
        """
        link = session.link
        if (
            link is None
            or session.is_plain
            or session.peer_end is not None
            or self.asks.has_open(session)
            or session.held
        ):
            return
        link.send_control(frames.encode_ack(*session.marks()))
        link.send_control(frames.encode_number(frames.GOAWAY, session.source.processed))
        self._part(session, None)

    def _part(self, session: Session, error: LinkboxError | None) -> None:
        """The session ends here; its link writes what is left, and closes."""
        link, session.link = session.link, None
        self.close_session(session, error)
        if link is not None:
            link.close_soon(self.now)
            self.dirty.append(link)

    def on_acked(self, session: Session, done: list[Delivery]) -> None:
        super().on_acked(session, done)
        if self.stopping and not self.pattern.stop_ends and session.error is None:
            self._go_away(session)

    def on_ask_closed(self, session: Session) -> None:
        super().on_ask_closed(session)
        if self.stopping and session.error is None:
            self._go_away(session)

    def disconnect(self, session: Session, reason: str, now: float) -> None:
        """The application does not want this peer any more: it is told so, and does not come back."""
        self.now = now
        link = session.link
        if link is not None and not session.is_plain:
            link.send_control(handshake.refuse("disconnected", reason))
        self._part(session, PeerLost(f"{session.peer} was disconnected from here: {reason}"))


_NOBODY = "nobody"

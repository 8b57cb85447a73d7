"""Decides which connections a server admits: limits, handshake, peer slots, ``accept=`` and reconnects."""

from __future__ import annotations

from typing import Final, Literal

from linkbox.core import reports
from linkbox.core.context import Context
from linkbox.core.effects import UNAUTHENTICATED
from linkbox.core.handshake import STEP, ServerHandshake
from linkbox.core.link import Link, LinkOwner, State
from linkbox.core.link_table import LinkTable
from linkbox.core.linked_link import LinkedLink
from linkbox.core.pending_accepts import PendingAccept, PendingAccepts
from linkbox.core.pending_links import PendingLinks
from linkbox.core.places import PING_WAIT, Places
from linkbox.core.plain_link import PlainLink
from linkbox.core.resumption import HelloVerdict, on_hello
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS, WaitQueue
from linkbox.core.wire import handshake_messages
from linkbox.core.wire.framing import PlainFraming
from linkbox.core.wire.handshake_errors import NotLinkbox, NotProven, OtherVersion
from linkbox.core.wire.handshake_messages import Hello, Welcome
from linkbox.errors import LinkError, PeerLost, ProtocolViolation
from linkbox.events import EventKind, Peer, PeerInfo
from linkbox.text import printable

Verdict = bool | Literal["later"]
"""What ``accept=`` decides: admit a client, reject it for good, or reject it for now."""
REJECTIONS: Final[dict[Verdict, tuple[str, str]]] = {
    False: ("denied", "rejected by the server's accept="),
    "later": ("later", "rejected for now by the server's accept="),
}


class PendingHandshake:
    """A client that waits for a peer slot while the server pings its silent peers."""

    __slots__ = ("_admission", "asked_at", "hello", "link", "timer_at")

    def __init__(self, admission: Admission, link: LinkedLink, hello: Hello, asked_at: float) -> None:
        self._admission = admission
        self.link: LinkedLink = link
        self.hello: Hello = hello
        self.asked_at: float = asked_at
        self.timer_at: float = NEVER

    def next_timer(self) -> float:
        """When a peer that has not answered the ping is disconnected."""
        return self.asked_at + PING_WAIT if self._admission.waiting.get(self.link) is self else NEVER

    def handle_timer(self, now: float) -> None:
        """The time for responses to the ping is over."""
        if now >= self.next_timer():
            self._admission.settle_waiting(self, now)


class Admission:
    """Decides on each connection of a server until the link is open."""

    __slots__ = (
        "_context",
        "_links",
        "_owner",
        "_pending",
        "_sessions",
        "max_links",
        "pending_accepts",
        "pending_accepts_changed",
        "places",
        "waiting",
    )

    def __init__(
        self, context: Context, sessions: SessionTable, links: LinkTable, places: Places, owner: LinkOwner
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._links = links
        self._owner = owner
        """The owner to which links report."""
        self.places: Places = places
        self.max_links: int = context.limits.connections
        """Most connections. The front end lowers it to what the process's descriptors allow."""
        self._pending = PendingLinks(context.limits)
        self.waiting: dict[Link, PendingHandshake] = {}
        """Clients that wait for a slot, the first one first."""
        self.pending_accepts: PendingAccepts = PendingAccepts()
        """Call ``accept=`` for each of these, then `decide`."""
        self.pending_accepts_changed: WaitQueue = WaitQueue()

    # -- connections -----------------------------------------------------------------------------------

    @property
    def pending(self) -> dict[Link, str | None]:
        """Connections that are not admitted yet, each with its origin: what it counts for (None: exempt)."""
        return self._pending.links

    def is_crowded(self, now: float) -> bool:
        """Is there no room for another pending connection? More connections wait in the kernel's queue."""
        journal = self._sessions.journal
        if journal is not None and journal.is_behind():
            return True
        is_full = self._pending.is_full()
        if self._pending.must_read(is_full or len(self._links.links) >= self.max_links, now):
            return True
        return is_full and self._pending.least_worthy(now) is None

    def accept(self, address: str, origin: str | None, now: float) -> Link | None:
        """Make the link for a new connection. None: close the connection at once, a limit is reached.

        ``origin`` is what the connection counts for, see ``address.origin_of``; None is exempt.
        """
        context = self._context
        context.effects.now = now
        if not self._make_room(origin, now):
            context.counters.refused += 1
            return None
        framing = context.settings.framing
        link: Link
        plain: PlainLink | None = None
        if isinstance(framing, PlainFraming):
            if self._has_no_place(address):
                return None
            link = plain = PlainLink(self._owner, context, address, now, framing)
        else:
            link = LinkedLink(self._owner, context, address, now, ServerHandshake(context))
        self._links.add(link)
        self._pending.add(link, origin)
        if context.effects.reports("debug"):
            reports.handshake(context, address, "a connection is accepted, the handshake begins")
        if plain is not None and not context.settings.secure:
            self._meet_plain(plain, now)
        return link

    def _make_room(self, origin: str | None, now: float) -> bool:
        """Is there room for one more connection? If necessary, close one that has not been authenticated."""
        pending = self._pending
        if pending.is_share_full(origin) and not self._close_for_another(pending.oldest_of(origin, now)):
            return False
        is_full = pending.is_full() or len(self._links.links) >= self.max_links
        return not is_full or self._close_for_another(pending.least_worthy(now))

    def _close_for_another(self, victim: Link | None) -> bool:
        if victim is None:
            return False
        self._context.counters.refused += 1
        reason = "closed before its handshake was complete: too many connections at a time"
        victim.abort(PeerLost(f"{victim.address} was {reason}"))
        return True

    def forget(self, link: Link) -> bool:
        """Remove a connection that is admitted or closed. True if it was pending."""
        if link not in self.pending:
            return False
        self.pending_accepts.discard(link, self.pending[link])  # The application need not decide on it.
        if self.waiting.pop(link, None) is not None:  # Clients that come and go must not fill the memory.
            self._context.effects.timers.forget_one()
        self._pending.remove(link)
        return True

    def hurry(self, seconds: float, now: float) -> None:
        """The server is stopping: give pending connections ``seconds`` to send HELLO and be refused."""
        for link in list(self.pending):
            link.shorten_handshake(seconds, now)

    def _has_no_place(self, address: str) -> bool:
        """With a plain framing: are all peer slots in use, or is the server stopping? If so, log it."""
        if self._context.is_stopping:
            self.log_rejected(address, "the server is stopping")
            return True
        most = self.places.max_peers
        is_full = self.places.are_taken() and self.places.replaceable(address) is None
        if is_full:
            self.log_rejected(address, f"all {most} peer slots are in use (max_peers={most})")
        return is_full

    def log_rejected(self, address: str, reason: str) -> None:
        """Count a connection that is not admitted, and log why."""
        self._context.counters.refused += 1
        self._context.effects.log_limited(
            UNAUTHENTICATED, f"{address} was rejected: {reason}", event="refused"
        )

    # -- plain framings --------------------------------------------------------------------------------

    def _meet_plain(self, link: PlainLink, now: float) -> None:
        """Let the application decide on a connection with a plain framing (``accept=``), or admit it."""
        if self._context.settings.asks_first:
            link.paused = True
            self._ask_application(link, None)
        else:
            self._admit_plain(link, now)

    def _admit_plain(self, link: PlainLink, now: float) -> None:
        self.forget(link)
        self.places.replace_for(link.address)
        context = self._context
        id = context.settings.entropy(16).hex()
        peer = Peer(link.address, link.address, id, context.wall_time(now), link.identity)
        session = self._sessions.open(peer)
        session.attach(link)
        link.open(session)
        if context.settings.greeting is not None:
            session.send_later(context.settings.greeting)
            context.effects.to_write.append(link)
        self._sessions.announce_up(session, EventKind.CONNECTED)
        if context.mailbox.is_crowded() and context.paused_links is not None:
            context.paused_links.pause(session.receiving, session.route)

    # -- TLS -------------------------------------------------------------------------------------------

    def secured(self, link: Link, now: float) -> None:
        """The TLS handshake is complete: wait for HELLO, or with a plain framing decide now."""
        if isinstance(link, PlainLink):
            if self._has_no_place(link.address):
                link.abort(None)
            else:
                self._meet_plain(link, now)
        self._context.effects.to_write.append(link)

    def insecure(self, link: Link, error: LinkError, now: float) -> None:
        """The TLS handshake has failed: write the alert, then close."""
        link.error = error
        self.log_rejected(link.address, str(error))
        link.close_soon(now)
        self._context.effects.to_write.append(link)

    # -- accept= ---------------------------------------------------------------------------------------

    def _ask_application(self, link: Link, hello: Hello | None) -> None:
        """Let the application decide (``accept=``). The front end calls `decide` with the result."""
        name = link.address if hello is None else hello.name
        identity = link.identity if hello is None else self._identity(link, hello)
        pending = PendingAccept(link, hello, PeerInfo(link.address, name, identity))
        self.pending_accepts.add(pending, self.pending[link])
        self._pending.waits(link)
        effects = self._context.effects
        effects.to_wake.append(self.pending_accepts_changed)
        effects.to_write.append(link)

    def decide(self, pending: PendingAccept, verdict: Verdict, now: float) -> None:
        """Admit or refuse a connection, as the application has decided."""
        effects = self._context.effects
        effects.now = now
        link, hello = pending.link, pending.hello
        if link.state is not State.HANDSHAKE:
            return  # It was closed in the meantime.
        self._pending.decided(link)
        if isinstance(link, LinkedLink) and hello is not None:
            no = self._objection(hello) if verdict is True else REJECTIONS[verdict]
            self._try(link, hello, no, now)
        elif verdict is not True:
            self.log_rejected(link.address, f"accept= returned {verdict!r}")
            link.abort(None)
        elif self._has_no_place(link.address):
            link.abort(None)
        else:
            assert isinstance(link, PlainLink)
            link.paused = False
            self._admit_plain(link, now)
        effects.to_write.append(link)
        effects.to_read.append(link)

    # -- the handshake ---------------------------------------------------------------------------------

    def shake_hands(
        self, link: LinkedLink, handshake: ServerHandshake, data: bytes, now: float
    ) -> bytes | None:
        """Process bytes of the handshake. Return the bytes behind it once the link is open, else None."""
        view, has_moved = memoryview(data), False
        self._context.effects.to_write.append(link)
        while link.state is State.HANDSHAKE:
            # In steps: bytes that arrive in one read with the end of the handshake are not sent early.
            step, view = bytes(view[:STEP]), view[STEP:]
            try:
                hello = handshake.feed(step)
            except ProtocolViolation as error:
                self._handshake_failed(link, error, now)
                return None
            has_moved = has_moved or handshake.has_moved
            if hello is not None:
                no = self._objection(hello)
                if no is None and self._context.settings.asks_first:
                    self._ask_application(link, hello)
                else:
                    self._try(link, hello, no, now)
            if not view:
                break
        if link.state is State.OPEN:
            return bytes(view)
        if link.state is State.HANDSHAKE:
            link.watch_progress(handshake.buffered(), has_moved, now)
        return None

    def _handshake_failed(self, link: LinkedLink, error: ProtocolViolation, now: float) -> None:
        if isinstance(error, NotLinkbox):
            self._context.effects.log_limited(UNAUTHENTICATED, f"{link.address}: {error}")
            link.abort(error)
        elif isinstance(error, OtherVersion):
            link.refuse("version", str(error), now)
        elif isinstance(error, NotProven):
            self._refuse(link, "authentication", str(error), now)
        else:
            link.refuse("protocol", f"{link.address} broke the protocol: {error}", now)

    def _try(self, link: LinkedLink, hello: Hello, no: tuple[str, str] | None, now: float) -> None:
        """Admit the client or refuse it."""
        if no is not None:
            self._refuse(link, no[0], no[1], now)
            return
        try:
            self._enter(link, hello, now)
        except ProtocolViolation as error:  # It resumes at a unit that was never sent.
            self._handshake_failed(link, error, now)

    def _objection(self, hello: Hello) -> tuple[str, str] | None:
        """Return code and reason if this client must be refused even when a slot is free."""
        context = self._context
        pattern, format_name = context.pattern.name, context.settings.format_name
        if hello.pattern != pattern:
            return "pattern", f"this is a server for {pattern}, the client is for {printable(hello.pattern)}"
        if hello.format != format_name:
            return "format", f"the format here is {format_name}, the client's is {printable(hello.format)}"
        if hello.session in self._sessions.by_id:
            return None
        if context.is_stopping:
            return "limit", "the server is stopping"
        # The first messages of a client need no credit: many clients together could exceed any limit.
        return ("limit", "the mailbox is full") if context.mailbox.is_crowded() else None

    def _enter(self, link: LinkedLink, hello: Hello, now: float) -> None:
        """Admit or resume a client without an objection, if a peer slot is free."""
        known, identity = self._sessions.by_id.get(hello.session), self._identity(link, hello)
        verdict = on_hello(
            is_known=known is not None,
            is_same_identity=known is not None and known.peer.identity == identity,
            is_newer=known is not None and hello.epoch > known.generation.epoch,
            is_same_birth=known is not None and hello.born == known.generation.born,
        )
        if known is None or verdict is HelloVerdict.NEW:
            if self.places.make_room(identity):
                self._admit(link, hello, identity, now)
            else:
                self._let_wait(link, hello, now)
        elif verdict is HelloVerdict.NOT_ITS_OWN:
            self._refuse(link, "session", "this session is another client's", now)
        elif verdict is HelloVerdict.OUTDATED:
            newest = known.generation.epoch
            self._refuse(link, "session", f"a newer connection of this session exists ({newest})", now)
        else:
            self._resume(link, known, hello, verdict is HelloVerdict.RESUME, now)

    def _refuse(self, link: LinkedLink, code: str, reason: str, now: float) -> None:
        self._context.counters.refused += 1
        text = f"{link.address} was refused ({code}): {reason}"
        self._context.counters.count(f"Refused: {code}")
        self._context.effects.log_limited(UNAUTHENTICATED, text, event="refused")
        link.refuse(code, reason, now)

    def _identity(self, link: Link, hello: Hello) -> str | None:
        """Return the client's authenticated name: from its certificate, or from a secret of its own."""
        return link.identity or (hello.name if self._context.settings.identifies else None)

    def _admit(self, link: LinkedLink, hello: Hello, identity: str | None, now: float) -> None:
        peer = Peer(hello.name, link.address, hello.session, self._context.wall_time(now), identity)
        session = self._sessions.open(peer)
        session.generation.born = hello.epoch
        self._welcome(link, session, hello, False, now)
        self._sessions.announce_up(session, EventKind.CONNECTED)

    def _resume(self, link: LinkedLink, session: Session, hello: Hello, is_same: bool, now: float) -> None:
        received = hello.received if is_same else 0
        if session.record is None:
            session.rewind(received)
        else:
            session.record.resume(received)
        old = session.detach()
        if old is not None:
            lost = PeerLost(f"{session.peer} came back on another connection")
            old.abort(lost)
            self._sessions.announce_down(session, lost if session.receiving.end_reason is None else None)
        self._sessions.relocate(session, hello.name, link.address)
        self._welcome(link, session, hello, is_same, now)
        self._context.counters.reconnects += 1
        self._sessions.announce_up(session, EventKind.RESUMED if is_same else EventKind.CONNECTED)

    def _welcome(
        self, link: LinkedLink, session: Session, hello: Hello, is_resumed: bool, now: float
    ) -> None:
        self.forget(link)
        context = self._context
        session.generation.epoch = hello.epoch
        session.resumes = hello.resumes
        session.attach(link)
        session.timer.stop()
        largest = hello.message if session.record is None else ENDLESS
        session.sending.welcome(hello.credit, largest, is_resumed)
        welcome = Welcome(
            context.settings.name,
            context.incarnation,
            session.credit(),
            context.limits.message,
            session.receiving.arrived,
            is_resumed,
            born=session.generation.born,
            is_new=not is_resumed and self._never_had(hello, link.opened_at),
        )
        link.send_welcome(handshake_messages.encode_welcome(welcome))
        link.open(session, now)
        context.effects.to_write.append(link)

    def _never_had(self, hello: Hello, now: float) -> bool:
        """Is it certain that this server never had the session? See generation.py."""
        context = self._context
        is_mine = hello.incarnation in ("", context.incarnation)
        return is_mine and hello.age > 0 and now - hello.age > context.knows_since

    # -- all peer slots in use -------------------------------------------------------------------------

    def _let_wait(self, link: LinkedLink, hello: Hello, now: float) -> None:
        """Ping peers that may be dead, and let the new client wait; refuse it if no peer is silent."""
        if not self.places.ping_silent(now):
            self._refuse(link, "busy", self.places.describe(), now)
            return
        self._pending.waits(link)
        pending = PendingHandshake(self, link, hello, now)
        self.waiting[link] = pending
        self._context.effects.timers.schedule(pending, pending.next_timer())

    def settle_waiting(self, pending: PendingHandshake, now: float) -> None:
        """Disconnect a peer that has not answered the ping, and admit or else refuse the waiting client."""
        if pending.link.state is State.HANDSHAKE:
            self.places.evict_silent(pending.asked_at)
        self.place_free()
        if self.waiting.pop(pending.link, None) is not None:
            self._pending.decided(pending.link)
            self._refuse(pending.link, "busy", self.places.describe(), now)

    def place_free(self) -> None:
        """A peer slot may be free: admit clients that wait for one. Each is checked again."""
        now = self._context.effects.now
        while (first := next(iter(self.waiting.values()), None)) is not None:
            link, hello = first.link, first.hello
            if link.state is State.HANDSHAKE:
                no = self._objection(hello)
                is_known = hello.session in self._sessions.by_id
                if no is None and not is_known and not self.places.make_room(self._identity(link, hello)):
                    return
                self._pending.decided(link)
                del self.waiting[link]
                self._try(link, hello, no, now)
                self._context.effects.to_read.append(link)
            else:
                del self.waiting[link]  # It is being closed.
